// SPDX-License-Identifier: Apache-2.0
#include "nn/train/tokenizer.h"

#include <algorithm>

#include "core/check.h"

namespace moxie::train {
namespace {

// The length of the valid UTF-8 character at the beginning of `text`, 0 where there is none. Too long forms,
// surrogates and code points above U+10FFFF are not valid.
size_t utf8_length(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                        : (first & 0xF0) == 0xE0         ? 3
                        : first >= 0xF0 && first <= 0xF4 ? 4
                                                         : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((at(i) & 0xC0) != 0x80) return 0;
  const unsigned char second = at(1);
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
  if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
  return length;
}

}  // namespace

std::vector<int32_t> ByteTokenizer::encode(std::string_view text) {
  std::vector<int32_t> tokens(text.size());
  std::transform(text.begin(), text.end(), tokens.begin(), [](char c) { return static_cast<unsigned char>(c); });
  return tokens;
}

std::string ByteTokenizer::decode(const std::vector<int32_t>& tokens) {
  std::string text;
  text.reserve(tokens.size());
  for (const int32_t token : tokens) {
    check(token >= 0 && token < vocabulary, "decode: tokens must be between 0 and {}, got {}", vocabulary - 1, token);
    text += static_cast<char>(static_cast<unsigned char>(token));
  }
  return text;
}

std::string ByteTokenizer::name(int32_t token) {
  check(token >= 0 && token < vocabulary, "name: tokens must be between 0 and {}, got {}", vocabulary - 1, token);
  switch (token) {
    case ' ': return "space";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default:
      return token > 0x20 && token < 0x7F ? std::string(1, static_cast<char>(token)) : fmt::format("\\x{:02x}", token);
  }
}

std::string printable(std::string_view text) {
  constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const unsigned char first = static_cast<unsigned char>(text[0]);
    const unsigned char second = length == 2 ? static_cast<unsigned char>(text[1]) : 0;
    const bool control = (length == 1 && (first < 0x20 || first == 0x7F) && first != '\n' && first != '\t') ||
                         (first == 0xC2 && second != 0 && second < 0xA0);
    result += length == 0 || control ? replacement : text.substr(0, length);
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return result;
}

}  // namespace moxie::train
