// SPDX-License-Identifier: Apache-2.0
// Checkpoints: everything a run needs to go on, in one safetensors file that any safetensors reader opens.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "nn/safetensors.h"

namespace moxie::train {

// The version of the checkpoint format that this library writes; it reads this one and older ones.
inline constexpr int64_t checkpoint_format = 1;

struct Checkpoint {
  std::vector<nn::NamedArray> arrays;           // "model.…" the parameters, "optimizer.…" the optimizer's state
  std::map<std::string, std::string> metadata;  // configuration, step, identity of the data, … ; keys without "moxie."
};

// Writes a checkpoint so that `path` always holds a whole one, the old or the new. The library's version, a checksum
// of every tensor and one of everything else go into the metadata (keys "moxie.…"). Throws std::runtime_error where the
// system refuses (a full disk, a read-only folder), std::invalid_argument for names that repeat.
void save_checkpoint(const std::string& path, const Checkpoint& checkpoint);

// Reads it back, arrays on the CPU in the order they were given. Throws std::invalid_argument where the file is
// truncated, damaged (any changed bit is found), no checkpoint of moxie, or of a newer format; std::runtime_error where
// it can't be opened.
Checkpoint load_checkpoint(const std::string& path);

// The arrays whose names begin with `prefix` and a dot, without them; and arrays with the prefix put before.
std::vector<nn::NamedArray> without_prefix(const std::vector<nn::NamedArray>& arrays, const std::string& prefix);
std::vector<nn::NamedArray> with_prefix(const std::vector<nn::NamedArray>& arrays, const std::string& prefix);

// The value of a metadata key. Throws std::invalid_argument naming the key where it is missing.
const std::string& metadata_value(const Checkpoint& checkpoint, const std::string& key);

}  // namespace moxie::train
