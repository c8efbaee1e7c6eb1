// SPDX-License-Identifier: Apache-2.0
#include "nn/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/check.h"

namespace moxie::nn {
namespace {

using Json = nlohmann::json;

struct NamedDtype {
  const char* name;
  Dtype dtype;
};
constexpr NamedDtype dtypes[] = {
    {"F64", Dtype::f64}, {"F32", Dtype::f32}, {"BF16", Dtype::bf16}, {"I32", Dtype::i32}, {"U8", Dtype::u8}};
constexpr const char* dtype_list = "F64, F32, BF16, I32 and U8";

// Takes the events of the JSON parser, which keeps no call stack, and accepts exactly the format's structure:
//   {"__metadata__": {string: string, ...}, name: {"dtype": string, "shape": [...], "data_offsets": [a, b]}, ...}
class HeaderEvents final {
 public:
  explicit HeaderEvents(const std::string& label) : label_(label) {}

  SafetensorsHeader header;

  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("true or false"); }
  bool number_integer(int64_t value) { return unexpected(fmt::format("the negative number {}", value)); }
  bool number_float(double, const std::string& text) {
    return unexpected(fmt::format("the number {}, which is no whole number below 2^64", shown(text)));
  }
  bool binary(Json::binary_t&) { return unexpected("binary data"); }

  bool number_unsigned(uint64_t value) {
    if (place_ == Place::shape) {
      refuse_unless(sizes_.size() < static_cast<size_t>(Shape::max_rank), "tensor '{}' has more than {} dimensions",
                    shown(name_), Shape::max_rank);
      refuse_unless(value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
                    "tensor '{}' is too large, a size is {}", shown(name_), value);
      sizes_.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::offsets) {
      refuse_unless(offsets_.size() < 2, "tensor '{}': data_offsets must be two numbers", shown(name_));
      offsets_.push_back(value);
    } else {
      return unexpected(fmt::format("the number {}", value));
    }
    return true;
  }

  bool string(std::string& value) {
    if (place_ == Place::metadata) {
      refuse_unless(header.metadata.emplace(key_, value).second, "the key '{}' of __metadata__ appears twice",
                    shown(key_));
    } else if (place_ == Place::tensor && key_ == "dtype") {
      const auto* known =
          std::find_if(std::begin(dtypes), std::end(dtypes), [&](const NamedDtype& d) { return value == d.name; });
      refuse_unless(known != std::end(dtypes), "tensor '{}' has dtype {}, which moxie lacks; it reads {}", shown(name_),
                    shown(value), dtype_list);
      dtype_ = known->dtype;
    } else {
      return unexpected(fmt::format("the string '{}'", shown(value)));
    }
    return true;
  }

  bool key(std::string& value) {
    key_ = value;
    if (place_ == Place::top) {
      refuse_unless(keys_.insert(value).second, "the name '{}' appears twice", shown(value));
      name_ = value;
    } else if (place_ == Place::tensor) {
      const int field = value == "dtype" ? 1 : value == "shape" ? 2 : value == "data_offsets" ? 4 : 0;
      refuse_unless(field != 0, "tensor '{}' has an unknown field '{}'", shown(name_), shown(value));
      refuse_unless((fields_ & field) == 0, "tensor '{}' has the field '{}' twice", shown(name_), value);
      fields_ |= field;
    }
    return true;
  }

  bool start_object(size_t) {
    if (place_ == Place::outside) {
      place_ = Place::top;
    } else if (place_ == Place::top && name_ == "__metadata__") {
      place_ = Place::metadata;
    } else if (place_ == Place::top) {
      place_ = Place::tensor;
      fields_ = 0;
      sizes_.clear();
      offsets_.clear();
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool end_object() {
    if (place_ == Place::tensor) {
      refuse_unless(fields_ == 7, "tensor '{}' lacks one of dtype, shape and data_offsets", shown(name_));
      refuse_unless(offsets_.size() == 2, "tensor '{}': data_offsets must be two numbers", shown(name_));
      add_entry();
    }
    place_ = place_ == Place::top ? Place::outside : Place::top;
    return true;
  }

  bool start_array(size_t) {
    if (place_ == Place::tensor && key_ == "shape") {
      place_ = Place::shape;
    } else if (place_ == Place::tensor && key_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      return unexpected("a list");
    }
    return true;
  }

  bool end_array() {
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception&) {
    refuse_unless(false, "the header is no valid JSON at byte {}", position);
    return false;
  }

 private:
  enum class Place { outside, top, metadata, tensor, shape, offsets };

  template <class... Args> void refuse_unless(bool fine, fmt::format_string<Args...> format, Args&&... args) const {
    if (fine) return;
    throw_invalid_argument(
        fmt::format("safetensors: '{}': {}", label_, fmt::format(format, std::forward<Args>(args)...)));
  }

  bool unexpected(const std::string& what) const {
    switch (place_) {
      case Place::outside: refuse_unless(false, "the header must be a JSON object, not {}", what); break;
      case Place::top: refuse_unless(false, "'{}' must be an object, not {}", shown(name_), what); break;
      case Place::metadata:
        refuse_unless(false, "'{}' of __metadata__ must be a string, not {}", shown(key_), what);
        break;
      case Place::tensor: refuse_unless(false, "tensor '{}': {} can't be {}", shown(name_), key_, what); break;
      default: refuse_unless(false, "tensor '{}': {} can't hold {}", shown(name_), key_, what);
    }
    return false;
  }

  void add_entry() {
    uint64_t numel = 1, at_least_one = 1;
    for (const int64_t size : sizes_) {
      const uint64_t s = static_cast<uint64_t>(std::max<int64_t>(size, 1));
      refuse_unless(at_least_one <= (uint64_t{1} << 59) / s,
                    "tensor '{}' is too large, its sizes multiply to more than 2^59", shown(name_));
      at_least_one *= s;
      numel *= static_cast<uint64_t>(size);
    }
    const uint64_t bytes = numel * static_cast<uint64_t>(size_of(dtype_));
    const Shape shape{std::span<const int64_t>(sizes_)};
    const uint64_t begin = offsets_[0], end = offsets_[1];
    refuse_unless(begin <= end, "tensor '{}' ends before it begins, data_offsets [{}, {}]", shown(name_), begin, end);
    refuse_unless(end - begin == bytes, "tensor '{}' {} {} needs {} bytes, its data_offsets [{}, {}] span {}",
                  shown(name_), name_of(dtype_), shape, bytes, begin, end, end - begin);
    header.entries.push_back({name_, dtype_, shape, begin, end});
  }

  const std::string& label_;
  Place place_ = Place::outside;
  std::set<std::string> keys_;
  std::string name_, key_;
  int fields_ = 0;
  Dtype dtype_ = Dtype::f32;
  std::vector<int64_t> sizes_;
  std::vector<uint64_t> offsets_;
};

// JSON text of a string. Throws std::invalid_argument where it is no UTF-8.
std::string quoted(const std::string& text, const std::string& label) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw_invalid_argument(fmt::format("safetensors: '{}': '{}' is no valid UTF-8", label, shown(text)));
  }
}

}  // namespace

std::string shown(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, 80)) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7F)
      text += fmt::format("\\x{:02x}", byte);
    else
      text += c;
  }
  return name.size() > 80 ? text + "..." : text;
}

SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_bytes, const std::string& label) {
  check(!text.empty() && text[0] == '{', "safetensors: '{}': not a safetensors file, the header must begin with '{{'",
        label);
  // The JSON parser takes a zero byte for the end.
  check(text.find('\0') == std::string_view::npos, "safetensors: '{}': the header holds a zero byte", label);
  HeaderEvents events(label);
  Json::sax_parse(text.begin(), text.end(), &events);
  std::vector<SafetensorsEntry>& entries = events.header.entries;
  std::stable_sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t position = 0;
  for (const SafetensorsEntry& entry : entries) {
    check(entry.end <= data_bytes, "safetensors: '{}': truncated, tensor '{}' ends at byte {} of {} bytes of data",
          label, shown(entry.name), entry.end, data_bytes);
    check(entry.begin == position, "safetensors: '{}': tensor '{}' begins at byte {}, the one before it ends at {}",
          label, shown(entry.name), entry.begin, position);
    position = entry.end;
  }
  check(position == data_bytes, "safetensors: '{}': {} bytes at the end belong to no tensor", label,
        data_bytes - position);
  return std::move(events.header);
}

std::string format_safetensors_header(const std::vector<SafetensorsEntry>& entries,
                                      const std::map<std::string, std::string>& metadata, const std::string& label) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (text.back() != '{') text += ',';
      text += quoted(key, label) + ":" + quoted(value, label);
    }
    text += '}';
  }
  std::set<std::string_view> names;
  for (const SafetensorsEntry& entry : entries) {
    check(entry.name != "__metadata__", "safetensors: '{}': no tensor can have the name __metadata__", label);
    check(names.insert(entry.name).second, "safetensors: '{}': the name '{}' appears twice", label, shown(entry.name));
    const auto* dtype =
        std::find_if(std::begin(dtypes), std::end(dtypes), [&](const NamedDtype& d) { return entry.dtype == d.dtype; });
    if (text.size() > 1) text += ',';
    text += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[", quoted(entry.name, label), dtype->name);
    for (int64_t i = 0; i < entry.shape.rank(); ++i) text += fmt::format("{}{}", i > 0 ? "," : "", entry.shape[i]);
    text += fmt::format("],\"data_offsets\":[{},{}]}}", entry.begin, entry.end);
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  check(text.size() <= max_safetensors_header_bytes, "safetensors: '{}': the header has {} bytes, the format allows {}",
        label, text.size(), max_safetensors_header_bytes);
  return text;
}

}  // namespace moxie::nn
