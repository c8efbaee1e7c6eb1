// SPDX-License-Identifier: Apache-2.0
// AtomicFile: a file that is there whole or not at all, whatever happens while it is written.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace moxie::nn {

// Writes to `path.tmp-<process>-<number>` in the same folder; commit() flushes it to the disk and renames it to `path`,
// so that `path` always holds a whole file, the old one or the new. Without commit() the temporary is removed; one
// left behind by a killed process is removed by the next writer of the same path. Every failure of the system throws
// std::runtime_error with the path and the system's words.
class AtomicFile final {
 public:
  // Throws also where `path` exists and is no regular file. A symbolic link is followed.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends `bytes` bytes.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Makes the file appear under its name. Nothing may be written afterwards.
  void commit();

  const std::string& temporary_path() const { return temporary_; }

 private:
  [[noreturn]] void fail(const char* what);
  void discard() noexcept;

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
};

// Replaces the file `path` by `text` in one step.
void write_file(const std::string& path, std::string_view text);

}  // namespace moxie::nn
