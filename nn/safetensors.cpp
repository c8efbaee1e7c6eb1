// SPDX-License-Identifier: Apache-2.0
#include "nn/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <system_error>

#include "nn/atomic_file.h"
#include "nn/safetensors_header.h"

namespace moxie::nn {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors holds little-endian numbers");

// A regular file, read from its beginning to its end.
class InputFile final {
 public:
  explicit InputFile(const std::string& path) : path_(path) {
    // Not blocking, so that a pipe can't make us wait before it is refused.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail("can't open it");
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0) fail("can't look at it");
    if (!S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      throw_invalid_argument(fmt::format("safetensors: '{}': a {}, not a file", path,
                                         S_ISDIR(status.st_mode) ? "folder" : "device or pipe"));
    }
    size_ = static_cast<uint64_t>(status.st_size);
  }
  ~InputFile() { ::close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  uint64_t size() const { return size_; }

  void read(void* data, uint64_t bytes) {
    char* into = static_cast<char*>(data);
    while (bytes > 0) {
      const ssize_t count = ::read(descriptor_, into, bytes);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        throw std::runtime_error(fmt::format("safetensors: '{}': reading failed: {}", path_, words()));
      }
      check(count > 0, "safetensors: '{}': truncated while it was read", path_);
      into += count;
      bytes -= static_cast<uint64_t>(count);
    }
  }

 private:
  static std::string words() { return std::generic_category().message(errno); }
  [[noreturn]] void fail(const char* what) {
    const std::string reason = words();
    if (descriptor_ >= 0) ::close(descriptor_);
    throw std::runtime_error(fmt::format("safetensors: '{}': {}: {}", path_, what, reason));
  }

  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace

void write_safetensors(const std::string& path, const std::vector<NamedArray>& arrays,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> entries;
  uint64_t position = 0;
  for (const NamedArray& named : arrays) {
    check(named.array.defined(), "safetensors: '{}': the array '{}' is undefined", path, shown(named.name));
    const uint64_t end = position + static_cast<uint64_t>(named.array.bytes());
    entries.push_back({named.name, named.array.dtype(), named.array.shape(), position, end});
    position = end;
  }
  const std::string header = format_safetensors_header(entries, metadata, path);
  const uint64_t header_bytes = header.size();
  AtomicFile file(path);
  file.write(&header_bytes, sizeof header_bytes);
  file.write(header);
  for (const NamedArray& named : arrays) {
    const Array host = named.array.to(Device::cpu());
    file.write(host.raw(), static_cast<size_t>(host.bytes()));
  }
  file.commit();
}

Safetensors read_safetensors(const std::string& path) {
  InputFile file(path);
  uint64_t header_bytes = 0;
  check(file.size() > 0, "safetensors: '{}': the file is empty", path);
  check(file.size() >= sizeof header_bytes,
        "safetensors: '{}': truncated, {} bytes are too few for the header's length", path, file.size());
  file.read(&header_bytes, sizeof header_bytes);
  check(header_bytes <= max_safetensors_header_bytes,
        "safetensors: '{}': not a safetensors file, the header would have {} bytes and the format allows {}", path,
        header_bytes, max_safetensors_header_bytes);
  const uint64_t rest = file.size() - sizeof header_bytes;
  check(header_bytes <= rest, "safetensors: '{}': truncated, the header has {} bytes and the file {} after its length",
        path, header_bytes, rest);
  std::string text(header_bytes, ' ');
  file.read(text.data(), header_bytes);
  SafetensorsHeader header = parse_safetensors_header(text, rest - header_bytes, path);
  Safetensors result;
  for (SafetensorsEntry& entry : header.entries) {
    Array array = Array::empty(entry.shape, {.dtype = entry.dtype});
    file.read(array.raw(), static_cast<uint64_t>(array.bytes()));
    result.arrays.push_back({std::move(entry.name), std::move(array)});
  }
  result.metadata = std::move(header.metadata);
  return result;
}

}  // namespace moxie::nn
