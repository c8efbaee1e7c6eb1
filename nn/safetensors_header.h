// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file, read with distrust.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"

namespace moxie::nn {

// The format's own limit on the header.
inline constexpr uint64_t max_safetensors_header_bytes = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  Dtype dtype = Dtype::f32;
  Shape shape;
  uint64_t begin = 0;  // bytes from the end of the header
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by offset: they cover [0, data_bytes) without holes or overlap
  std::map<std::string, std::string> metadata;
};

// Parses the header of a file that holds `data_bytes` bytes after it. Throws std::invalid_argument saying what is
// wrong; the text begins with "safetensors: 'label': ".
SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_bytes, const std::string& label);

// The header for these entries (in this order, offsets as given) and metadata, padded with spaces to a multiple of 8
// bytes. Throws std::invalid_argument for names that repeat, are "__metadata__" or no UTF-8.
std::string format_safetensors_header(const std::vector<SafetensorsEntry>& entries,
                                      const std::map<std::string, std::string>& metadata, const std::string& label);

// A name from a file, fit for an error message: at most 80 characters, without control characters.
std::string shown(std::string_view name);

}  // namespace moxie::nn
