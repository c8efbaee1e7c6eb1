// SPDX-License-Identifier: Apache-2.0
#include "nn/train/checkpoint.h"

#include <charconv>

#include "core/check.h"
#include "core/version.h"
#include "nn/safetensors_header.h"
#include "nn/train/hash.h"

namespace moxie::train {
namespace {

constexpr const char* format_key = "moxie.checkpoint_format";
constexpr const char* version_key = "moxie.version";           // of the library that wrote it
constexpr const char* tensors_key = "moxie.tensor_checksums";  // 16 digits per tensor, in the file's order
constexpr const char* contents_key = "moxie.contents_checksum";

// One checksum per tensor, over its bytes.
std::string tensor_checksums(const std::vector<nn::NamedArray>& arrays) {
  std::string all;
  for (const nn::NamedArray& named : arrays) {
    const Array host = named.array.to(Device::cpu());
    all += hex(hash_bytes(host.raw(), static_cast<uint64_t>(host.bytes())));
  }
  return all;
}

// The checksum of names, dtypes, shapes and all metadata but itself.
std::string contents_checksum(const std::vector<nn::NamedArray>& arrays,
                              const std::map<std::string, std::string>& metadata) {
  uint64_t h = 0;
  for (const nn::NamedArray& named : arrays) {
    h = hash_text(named.name, h);
    h = hash_text(fmt::format("{} {}", name_of(named.array.dtype()), named.array.shape()), h);
  }
  for (const auto& [key, value] : metadata) {
    if (key != contents_key) h = hash_text(value, hash_text(key, h));
  }
  return hex(h);
}

bool is_own_key(const std::string& key) { return key.rfind("moxie.", 0) == 0; }

}  // namespace

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  std::map<std::string, std::string> metadata = checkpoint.metadata;
  for (const auto& [key, value] : metadata) {
    check(!is_own_key(key), "save_checkpoint: metadata keys must not begin with 'moxie.', got '{}'", key);
  }
  for (const nn::NamedArray& named : checkpoint.arrays) {
    check(named.array.defined(), "save_checkpoint: the array '{}' is undefined", named.name);
  }
  metadata[format_key] = std::to_string(checkpoint_format);
  metadata[version_key] = std::string(library_version);
  metadata[tensors_key] = tensor_checksums(checkpoint.arrays);
  metadata[contents_key] = contents_checksum(checkpoint.arrays, metadata);
  nn::write_safetensors(path, checkpoint.arrays, metadata);
}

Checkpoint load_checkpoint(const std::string& path) {
  nn::Safetensors file = nn::read_safetensors(path);
  const auto format = file.metadata.find(format_key);
  check(format != file.metadata.end(), "load_checkpoint: '{}' is a safetensors file, but no checkpoint of moxie", path);
  int64_t version = 0;
  const char *begin = format->second.data(), *end = begin + format->second.size();
  const auto [stop, error] = std::from_chars(begin, end, version);
  check(error == std::errc{} && stop == end && version >= 1, "load_checkpoint: '{}' is damaged: its format is '{}'",
        path, format->second);
  check(version <= checkpoint_format,
        "load_checkpoint: '{}' has format {}, this moxie reads up to {}; use the moxie that wrote it, or a newer one",
        path, version, checkpoint_format);
  const std::string checksums = file.metadata[tensors_key], contents = file.metadata[contents_key];
  check(contents == contents_checksum(file.arrays, file.metadata),
        "load_checkpoint: '{}' is damaged: the checksum of its header is wrong", path);
  check(checksums.size() == 16 * file.arrays.size(),
        "load_checkpoint: '{}' is damaged: it has {} tensors and {} checksums", path, file.arrays.size(),
        checksums.size() / 16);
  const std::string found = tensor_checksums(file.arrays);
  for (size_t i = 0; i < file.arrays.size(); ++i) {
    check(found.compare(16 * i, 16, checksums, 16 * i, 16) == 0,
          "load_checkpoint: '{}' is damaged: the checksum of tensor '{}' is wrong", path,
          nn::shown(file.arrays[i].name));
  }
  std::erase_if(file.metadata, [](const auto& entry) { return is_own_key(entry.first); });
  return {std::move(file.arrays), std::move(file.metadata)};
}

std::vector<nn::NamedArray> without_prefix(const std::vector<nn::NamedArray>& arrays, const std::string& prefix) {
  std::vector<nn::NamedArray> result;
  for (const nn::NamedArray& named : arrays) {
    if (named.name.rfind(prefix + ".", 0) == 0) result.push_back({named.name.substr(prefix.size() + 1), named.array});
  }
  return result;
}

std::vector<nn::NamedArray> with_prefix(const std::vector<nn::NamedArray>& arrays, const std::string& prefix) {
  std::vector<nn::NamedArray> result;
  for (const nn::NamedArray& named : arrays) result.push_back({prefix + "." + named.name, named.array});
  return result;
}

const std::string& metadata_value(const Checkpoint& checkpoint, const std::string& key) {
  const auto found = checkpoint.metadata.find(key);
  check(found != checkpoint.metadata.end(), "checkpoint: the metadata has no '{}'", key);
  return found->second;
}

}  // namespace moxie::train
