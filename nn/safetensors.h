// SPDX-License-Identifier: Apache-2.0
// The safetensors file format: an 8-byte length, a JSON header, and the tensors' bytes without gaps.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "core/array.h"

namespace moxie::nn {

struct NamedArray {
  std::string name;
  Array array;
};

struct Safetensors {
  std::vector<NamedArray> arrays;  // on the CPU, in the file's order
  std::map<std::string, std::string> metadata;
};

// Writes the arrays so that `path` always holds a whole file, the old one or the new: to a file aside, flushed to the
// disk, renamed. Throws std::runtime_error naming the path where the system refuses (a full disk, a missing folder).
void write_safetensors(const std::string& path, const std::vector<NamedArray>& arrays,
                       const std::map<std::string, std::string>& metadata = {});

// Reads a file written by anyone. Throws std::invalid_argument saying what is wrong where the file is truncated,
// damaged or not of this format, or has a dtype that moxie lacks; std::runtime_error where it can't be opened.
Safetensors read_safetensors(const std::string& path);

}  // namespace moxie::nn
