// SPDX-License-Identifier: Apache-2.0
// nn/safetensors.h: round trips, and what a reader that trusts nobody must refuse.
#include "nn/safetensors.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "nn/safetensors_header.h"
#include "tests/fixture.h"
#include "tests/temporary_folder.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::test;

namespace {

std::string length_prefix(uint64_t value) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &value, 8);
  return bytes;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  return length_prefix(header.size()) + header + std::string(data_bytes, 'x');
}

bool same_bytes(const Array& a, const Array& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0);
}

// One array of each dtype, with an empty one, a scalar and numbers that only bits can compare.
std::vector<NamedArray> examples() {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  return {{"layers.0.weight", Array::from(std::vector<float>{1.5f, nan, -inf, -0.0f, 1e-45f, 3e38f}, {2, 3})},
          {"double", Array::from(std::vector<double>{0.1, -1e300}, {2})},
          {"empty", Array::empty({3, 0, 2})},
          {"half", Array::from(std::vector<bf16>{bf16(1.0f), bf16(-2.5f), bf16(nan)}, {3, 1})},
          {"scalar", Array::full({}, 7.0)},
          {"ids", Array::from(std::vector<int32_t>{-2147483647 - 1, 0, 2147483647}, {1, 3})},
          {"mask \"quoted\" \\ \u00e9\n", Array::from(std::vector<uint8_t>{0, 1, 255}, {3})},
          {"empty at the end", Array::empty({0}, {.dtype = Dtype::i32})}};
}

struct BadFile {
  const char* what;
  std::string bytes;
  const char* message;
};

std::vector<BadFile> bad_files() {
  const auto tensor = [](const std::string& fields, size_t bytes) {
    return file_of(fmt::format(R"({{"a":{{{}}}}})", fields), bytes);
  };
  const std::string one = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  const auto two = [](const std::string& a, const std::string& b, size_t bytes) {
    return file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
                       R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}",
                   bytes);
  };
  return {
      {"empty file", "", "the file is empty"},
      {"one byte", "{", "too few for the header's length"},
      {"seven bytes", std::string(7, '\0'), "too few for the header's length"},
      {"length only, zero", length_prefix(0), "must begin with '{'"},
      {"header cut", length_prefix(10) + "{}", "truncated, the header has 10 bytes and the file 2"},
      {"length at the limit", length_prefix(100'000'000) + "{}", "truncated, the header has 100000000 bytes"},
      {"length over the limit", length_prefix(100'000'001) + "{}", "and the format allows 100000000"},
      {"length 2^64 - 1", length_prefix(~uint64_t{0}) + "{}", "not a safetensors file"},
      {"length 2^64 - 8", length_prefix(~uint64_t{7}) + "{}", "not a safetensors file"},
      {"zip archive", "PK\x03\x04 some pickle inside", "not a safetensors file"},
      {"leading space", file_of(" {}", 0), "must begin with '{'"},
      {"byte order mark", file_of("\xEF\xBB\xBF{}", 0), "must begin with '{'"},
      {"a list", file_of("[]", 0), "must begin with '{'"},
      {"a number", file_of("1", 0), "must begin with '{'"},
      {"unclosed", file_of("{", 0), "no valid JSON at byte"},
      {"text after the object", file_of("{} x", 0), "no valid JSON at byte"},
      {"two objects", file_of("{}{}", 0), "no valid JSON at byte"},
      {"comment", file_of("{/* */}", 0), "no valid JSON at byte"},
      {"comma at the end", file_of(R"({"__metadata__":{},})", 0), "no valid JSON at byte"},
      {"zero byte after the object", file_of(std::string("{}\0junk", 7), 0), "holds a zero byte"},
      {"not UTF-8", file_of("{\"\xFF\":{" + one + "}}", 4), "no valid JSON at byte"},
      {"lone surrogate", file_of("{\"\\ud800\":{" + one + "}}", 4), "no valid JSON at byte"},
      {"bytes without a tensor", file_of("{}", 3), "3 bytes at the end belong to no tensor"},
      {"tensor is a number", file_of(R"({"a":1})", 0), "'a' must be an object, not the number 1"},
      {"tensor is null", file_of(R"({"a":null})", 0), "'a' must be an object, not null"},
      {"tensor is a list", file_of(R"({"a":[]})", 0), "'a' must be an object, not a list"},
      {"tensor is a string", file_of(R"({"a":"b"})", 0), "'a' must be an object, not the string 'b'"},
      {"metadata is a string", file_of(R"({"__metadata__":"b"})", 0), "'__metadata__' must be an object"},
      {"metadata holds a number", file_of(R"({"__metadata__":{"k":1}})", 0), "'k' of __metadata__ must be a string"},
      {"metadata holds an object", file_of(R"({"__metadata__":{"k":{}}})", 0), "must be a string, not an object"},
      {"metadata holds a list", file_of(R"({"__metadata__":{"k":["v"]}})", 0), "must be a string, not a list"},
      {"metadata key twice", file_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0),
       "key 'k' of __metadata__ appears twice"},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "name '__metadata__' appears twice"},
      {"name twice", file_of("{\"a\":{" + one + "},\"a\":{" + one + "}}", 4), "the name 'a' appears twice"},
      {"field twice", tensor(one + ",\"dtype\":\"F32\"", 4), "has the field 'dtype' twice"},
      {"unknown field", tensor(one + ",\"stride\":[1]", 4), "has an unknown field 'stride'"},
      {"deep in an unknown field", tensor("\"x\":" + std::string(100'000, '['), 0), "has an unknown field 'x'"},
      {"deep at the top", file_of("{\"a\":" + std::string(1'000'000, '['), 0), "must be an object, not a list"},
      {"deep objects",
       file_of(
           [] {
             std::string s;
             for (int i = 0; i < 100'000; ++i) s += "{\"dtype\":";
             return s;
           }(),
           0),
       "dtype can't be an object"},
      {"deep in the shape", tensor("\"shape\":" + std::string(100'000, '['), 0), "shape can't hold a list"},
      {"no dtype", tensor(R"("shape":[1],"data_offsets":[0,4])", 4), "lacks one of dtype, shape and data_offsets"},
      {"no shape", tensor(R"("dtype":"F32","data_offsets":[0,4])", 4), "lacks one of dtype, shape and data_offsets"},
      {"no offsets", tensor(R"("dtype":"F32","shape":[1])", 4), "lacks one of dtype, shape and data_offsets"},
      {"no fields", tensor("", 4), "lacks one of dtype, shape and data_offsets"},
      {"dtype of the format that moxie lacks", tensor(R"("dtype":"F16","shape":[1],"data_offsets":[0,2])", 2),
       "has dtype F16, which moxie lacks"},
      {"dtype nobody knows", tensor(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])", 4),
       "has dtype f32, which moxie lacks"},
      {"dtype with control characters", tensor(R"("dtype":"F\u001b[31m","shape":[1],"data_offsets":[0,4])", 4),
       "has dtype F\\x1b[31m, which"},
      {"dtype is a number", tensor(R"("dtype":32,"shape":[1],"data_offsets":[0,4])", 4),
       "dtype can't be the number 32"},
      {"shape is a number", tensor(R"("dtype":"F32","shape":1,"data_offsets":[0,4])", 4),
       "shape can't be the number 1"},
      {"shape is an object", tensor(R"("dtype":"F32","shape":{},"data_offsets":[0,4])", 4),
       "tensor 'a': shape can't be an object"},
      {"negative size", tensor(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])", 4),
       "shape can't hold the negative number -1"},
      {"fractional size", tensor(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])", 4),
       "shape can't hold the number 1.5"},
      {"size with exponent", tensor(R"("dtype":"F32","shape":[1e0],"data_offsets":[0,4])", 4),
       "shape can't hold the number 1e0"},
      {"size 2^63", tensor(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4])", 4),
       "too large, a size is 9223372036854775808"},
      {"size 2^64", tensor(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,4])", 4),
       "no whole number below 2^64"},
      {"size beyond doubles", tensor(R"("dtype":"U8","shape":[1e999],"data_offsets":[0,4])", 4),
       "no valid JSON at byte"},
      {"size is text", tensor(R"("dtype":"U8","shape":["4"],"data_offsets":[0,4])", 4),
       "shape can't hold the string '4'"},
      {"size is true", tensor(R"("dtype":"U8","shape":[true],"data_offsets":[0,1])", 1),
       "shape can't hold true or false"},
      {"nine dimensions", tensor(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])", 1),
       "has more than 8 dimensions"},
      {"sizes that multiply to 4 modulo 2^64",
       tensor(R"("dtype":"U8","shape":[4194305,4194305,211106198978564],"data_offsets":[0,4])", 4), "too large"},
      {"sizes that multiply to 0 modulo 2^64",
       tensor(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])", 0), "too large"},
      {"bytes that overflow", tensor(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])", 0),
       "too large"},
      {"huge sizes beside a zero",
       tensor(R"("dtype":"U8","shape":[9223372036854775807,9223372036854775807,0],"data_offsets":[0,0])", 0),
       "too large"},
      {"petabyte", tensor(R"("dtype":"U8","shape":[1125899906842624],"data_offsets":[0,1125899906842624])", 4),
       "truncated, tensor 'a' ends at byte 1125899906842624 of 4"},
      {"one offset", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0])", 4), "data_offsets must be two numbers"},
      {"three offsets", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4,4])", 4),
       "data_offsets must be two numbers"},
      {"negative offset", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[-4,0])", 4),
       "data_offsets can't hold the negative number -4"},
      {"offset is a fraction", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0.0,4])", 4),
       "data_offsets can't hold the number 0.0"},
      {"offsets backwards", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])", 4), "ends before it begins"},
      {"offsets beyond the file", tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 4),
       "truncated, tensor 'a' ends at byte 8 of 4"},
      {"offsets at 2^64 - 4",
       tensor(R"("dtype":"F32","shape":[1],"data_offsets":[18446744073709551611,18446744073709551615])", 4),
       "truncated"},
      {"fewer bytes than the shape", tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])", 4),
       "needs 8 bytes, its data_offsets [0, 4] span 4"},
      {"more bytes than the shape", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])", 8),
       "needs 4 bytes, its data_offsets [0, 8] span 8"},
      {"empty tensor with bytes", tensor(R"("dtype":"F32","shape":[0],"data_offsets":[0,4])", 4), "needs 0 bytes"},
      {"hole at the start", two("[1,5]", "[5,9]", 9), "'a' begins at byte 1, the one before it ends at 0"},
      {"hole between", two("[0,4]", "[5,9]", 9), "'b' begins at byte 5, the one before it ends at 4"},
      {"overlap", two("[0,4]", "[3,7]", 7), "'b' begins at byte 3, the one before it ends at 4"},
      {"same bytes twice", two("[0,4]", "[0,4]", 4), "'b' begins at byte 0, the one before it ends at 4"},
      {"bytes after the last", two("[0,4]", "[4,8]", 9), "1 bytes at the end belong to no tensor"},
      {"two bytes missing", two("[0,4]", "[4,8]", 6), "truncated, tensor 'b' ends at byte 8 of 6"},
  };
}

// Whether what was read could have come from a file of that size: no more numbers than bytes.
bool self_consistent(const Safetensors& file, size_t bytes) {
  size_t total = 0;
  for (const NamedArray& named : file.arrays) {
    if (named.array.bytes() != named.array.shape().numel() * size_of(named.array.dtype())) return false;
    total += static_cast<size_t>(named.array.bytes());
  }
  return total <= bytes;
}

}  // namespace

TEST_CASE("safetensors: every dtype, empty tensors and scalars come back bit by bit") {
  const TemporaryFolder folder;
  const std::vector<NamedArray> arrays = examples();
  const std::map<std::string, std::string> metadata{{"step", "12"}, {"quote \" and \n", "\u00e9 \\ \x01"}, {"", ""}};
  write_safetensors(folder / "a.safetensors", arrays, metadata);
  const Safetensors file = read_safetensors(folder / "a.safetensors");
  CHECK(file.metadata == metadata);
  REQUIRE(file.arrays.size() == arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i) {
    CHECK(file.arrays[i].name == arrays[i].name);
    CHECK(same_bytes(file.arrays[i].array, arrays[i].array));
  }
  CHECK(folder.files() == 1);  // no temporary is left
}

TEST_CASE("safetensors: the file is laid out as the format says") {
  const TemporaryFolder folder;
  write_safetensors(folder / "a", {{"x", Array::from(std::vector<uint8_t>{1, 2, 3}, {3})}}, {{"k", "v"}});
  const std::string bytes = contents_of(folder / "a");
  const std::string header = R"({"__metadata__":{"k":"v"},"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})";
  const size_t padded = (header.size() + 7) / 8 * 8;
  CHECK(bytes.substr(0, 8) == length_prefix(padded));
  CHECK(bytes.substr(8, padded) == header + std::string(padded - header.size(), ' '));
  CHECK(bytes.substr(8 + padded) == "\x01\x02\x03");
}

TEST_CASE("safetensors: files from other writers that are odd but right") {
  const TemporaryFolder folder;
  CHECK(read_safetensors(folder.write("none", file_of("{}", 0))).arrays.empty());
  CHECK(read_safetensors(folder.write("space", file_of("{}   \n", 0))).arrays.empty());
  CHECK(read_safetensors(folder.write("no keys", file_of(R"({"__metadata__":{}})", 0))).metadata.empty());
  // Header order is not file order; the empty tensor shares its offset with another.
  const Safetensors file =
      read_safetensors(folder.write("order", file_of(R"({"late":{"data_offsets":[4,8],"dtype":"U8","shape":[2,2]},)"
                                                     R"("empty":{"dtype":"F64","shape":[2,0],"data_offsets":[4,4]},)"
                                                     R"("early":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                                                     8)));
  REQUIRE(file.arrays.size() == 3);
  CHECK(file.arrays[0].name == "early");
  CHECK(file.arrays[0].array.shape() == Shape{});
  CHECK(file.arrays[1].name == "empty");
  CHECK(file.arrays[1].array.shape() == Shape{2, 0});
  CHECK(file.arrays[2].name == "late");
  CHECK(file.arrays[2].array.to_vector<uint8_t>() == std::vector<uint8_t>(4, 'x'));
}

TEST_CASE("safetensors: a file that the safetensors package wrote (tests/fixtures/make_safetensors.py)") {
  const Safetensors file =
      read_safetensors((moxie::testing::fixtures_folder() / "safetensors_python.safetensors").string());
  CHECK(file.metadata == std::map<std::string, std::string>{{"format", "pt"}, {"note", "caf\u00e9\n"}});
  std::map<std::string, Array> arrays;
  for (const NamedArray& named : file.arrays) arrays[named.name] = named.array;
  REQUIRE(arrays.size() == 8);
  CHECK(arrays["layers.0.weight"].shape() == Shape{2, 3});
  CHECK(arrays["layers.0.weight"].to_vector<float>() == std::vector<float>{0, 0.25f, 0.5f, 0.75f, 1, 1.25f});
  CHECK(arrays["half"].dtype() == Dtype::bf16);
  CHECK(arrays["half"].to_vector<float>() == std::vector<float>{1, -2.5f, std::numeric_limits<float>::infinity()});
  CHECK(arrays["double"].to_vector<double>() == std::vector<double>{0.1, -1e300});
  CHECK(arrays["ids"].shape() == Shape{1, 2});
  CHECK(arrays["ids"].to_vector<int32_t>() == std::vector<int32_t>{-2147483647 - 1, 2147483647});
  CHECK(arrays["mask"].to_vector<uint8_t>() == std::vector<uint8_t>{0, 255});
  CHECK(arrays["scalar"].shape() == Shape{});
  CHECK(arrays["scalar"].item() == 7);
  CHECK(arrays["empty"].shape() == Shape{3, 0});
  CHECK(arrays.count("name with \u00e9 and \"quotes\"") == 1);
}

TEST_CASE("safetensors: bad files are refused with what is wrong") {
  const TemporaryFolder folder;
  const std::vector<BadFile> files = bad_files();
  CHECK(files.size() >= 35);
  for (const BadFile& bad : files) {
    const std::string path = folder.write("bad.safetensors", bad.bytes);
    const std::string message = message_of<std::invalid_argument>([&] { read_safetensors(path); });
    CAPTURE(bad.what);
    CAPTURE(message);
    CHECK(contains(message, bad.message));
    CHECK(contains(message, "safetensors: '" + path + "'"));
    CHECK(message.size() < 500);
  }
}

TEST_CASE("safetensors: a file cut at any byte is refused") {
  const TemporaryFolder folder;
  write_safetensors(folder / "a", examples(), {{"step", "12"}});
  const std::string bytes = contents_of(folder / "a");
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::string path = folder.write("cut", std::string_view(bytes).substr(0, size));
    CAPTURE(size);
    CHECK_THROWS_AS(read_safetensors(path), std::invalid_argument);
  }
  CHECK_NOTHROW(read_safetensors(folder / "a"));
}

TEST_CASE("safetensors: any flipped bit of the header is refused or gives a consistent file") {
  const TemporaryFolder folder;
  write_safetensors(folder / "a", examples(), {{"step", "12"}});
  const std::string bytes = contents_of(folder / "a");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  int refused = 0;
  for (size_t bit = 0; bit < 8 * (8 + header); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const std::string path = folder.write("flipped", flipped);
    CAPTURE(bit);
    Safetensors file;
    try {
      file = read_safetensors(path);
    } catch (const std::invalid_argument&) {
      ++refused;
    }
    CHECK(self_consistent(file, bytes.size()));
  }
  CHECK(refused > 1000);
}

TEST_CASE("safetensors: what can't be opened or is no file") {
  const TemporaryFolder folder;
  const std::string missing = folder / "missing";
  CHECK(contains(message_of<std::runtime_error>([&] { read_safetensors(missing); }),
                 "': can't open it: No such file or directory"));
  CHECK(contains(message_of<std::invalid_argument>([&] { read_safetensors(folder.path()); }), "a folder, not a file"));
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(contains(message_of<std::invalid_argument>([&] { read_safetensors(folder / "pipe"); }), "device or pipe"));
}

TEST_CASE("safetensors: what the writer refuses leaves the file as it was") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "before");
  const Array x = Array::zeros({2});
  const auto message = [&](const std::vector<NamedArray>& arrays, const std::map<std::string, std::string>& metadata) {
    return message_of<std::invalid_argument>([&] { write_safetensors(path, arrays, metadata); });
  };
  CHECK(contains(message({{"x", x}, {"y", x}, {"x", x}}, {}), "': the name 'x' appears twice"));
  CHECK(contains(message({{"__metadata__", x}}, {}), "no tensor can have the name __metadata__"));
  CHECK(contains(message({{"x", Array()}}, {}), "': the array 'x' is undefined"));
  CHECK(contains(message({{"\xFF", x}}, {}), "'\\xff' is no valid UTF-8"));
  CHECK(contains(message({{"x", x}}, {{"k", "\xC0"}}), "is no valid UTF-8"));
  CHECK(contains(message({}, {{"k", std::string(100'000'000, 'x')}}), " bytes, the format allows 100000000"));
  CHECK(contents_of(path) == "before");
  CHECK(folder.files() == 1);
}

TEST_CASE("safetensors: names in messages are short and harmless") {
  CHECK(shown("blocks.2.weight") == "blocks.2.weight");
  CHECK(shown("\x1b[2J\n") == "\\x1b[2J\\x0a");
  CHECK(shown(std::string(200, 'a')) == std::string(80, 'a').append("..."));
}
