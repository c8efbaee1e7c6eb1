// SPDX-License-Identifier: Apache-2.0
// nn/train/tokenizer.h and hash.h.
#include "nn/train/tokenizer.h"

#include <doctest/doctest.h>

#include <numeric>
#include <set>

#include "nn/train/hash.h"
#include "tests/temporary_folder.h"

using namespace moxie::train;
using namespace moxie::test;

TEST_CASE("ByteTokenizer: all bytes there and back") {
  std::vector<int32_t> tokens(256);
  std::iota(tokens.begin(), tokens.end(), 0);
  const std::string text = ByteTokenizer::decode(tokens);
  CHECK(text.size() == 256);
  CHECK(ByteTokenizer::encode(text) == tokens);
  CHECK(ByteTokenizer::encode("a\xff") == std::vector<int32_t>{97, 255});
  CHECK(ByteTokenizer::encode("").empty());
  CHECK(contains(message_of<std::invalid_argument>([] {
                   ByteTokenizer::decode({1, 256});
                 }),
                 "decode: tokens must be between 0 and 255, got 256"));
  CHECK(contains(message_of<std::invalid_argument>([] { ByteTokenizer::decode({-1}); }), "got -1"));
}

TEST_CASE("ByteTokenizer: names are short, plain and different") {
  CHECK(ByteTokenizer::name('a') == "a");
  CHECK(ByteTokenizer::name(' ') == "space");
  CHECK(ByteTokenizer::name('\n') == "\\n");
  CHECK(ByteTokenizer::name(0) == "\\x00");
  CHECK(ByteTokenizer::name(0xe2) == "\\xe2");
  std::set<std::string> all;
  for (int32_t token = 0; token < 256; ++token) {
    const std::string name = ByteTokenizer::name(token);
    for (const char c : name) CHECK((c > 0x20 && c < 0x7F));
    all.insert(name);
  }
  CHECK(all.size() == 256);
  CHECK_THROWS_WITH_AS(ByteTokenizer::name(256), "name: tokens must be between 0 and 255, got 256",
                       std::invalid_argument);
}

TEST_CASE("printable: text stays, what could steer a terminal goes") {
  const std::string mark = "\xEF\xBF\xBD";
  CHECK(printable("And he said,\n\tgo") == "And he said,\n\tgo");
  CHECK(printable("caf\u00e9 \u20ac \U0001F600") == "caf\u00e9 \u20ac \U0001F600");
  CHECK(printable("\x1b[31m") == mark + "[31m");
  CHECK(printable(std::string("a\0\r\x7f", 4)) == "a" + mark + mark + mark);
  CHECK(printable("\xC2\x9B"
                  "31m") == mark + "31m");                            // a control character of two bytes
  CHECK(printable("\xFFx\x80") == mark + "x" + mark);                 // never begins a character
  CHECK(printable("\xC0\xAF") == mark + mark);                        // too long a form of '/'
  CHECK(printable("\xE0\x80\xAF") == mark + mark + mark);             // the same in three bytes
  CHECK(printable("\xED\xA0\x80") == mark + mark + mark);             // a surrogate
  CHECK(printable("\xF4\x90\x80\x80") == mark + mark + mark + mark);  // above U+10FFFF
  CHECK(printable("\xE2\x82") == mark + mark);                        // cut off
  CHECK(printable("") == "");
}

TEST_CASE("hash: pinned, and every flipped bit changes it") {
  CHECK(hex(hash_text("")) == "fdd9397d848335b9");
  CHECK(hex(hash_text("moxie")) == "8afb169d2c204868");
  std::string text;
  for (int i = 0; i < 150; ++i) text += static_cast<char>(i * 37 + 1);
  CHECK(hex(hash_text(text)) == "c786460c4b7ca24b");
  CHECK(hex(hash_text(text, 7)) == "a9499db64920ff88");
  std::set<uint64_t> all{hash_text(text)};
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    all.insert(hash_text(flipped));
  }
  for (size_t size = 0; size < text.size(); ++size) all.insert(hash_text(text.substr(0, size)));
  for (size_t zeros = 1; zeros < 100; ++zeros) all.insert(hash_text(std::string(zeros, '\0')));
  CHECK(all.size() == 1 + 8 * text.size() + text.size() + 99);
  CHECK(hex(10) == "000000000000000a");
}
