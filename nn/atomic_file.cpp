// SPDX-License-Identifier: Apache-2.0
#include "nn/atomic_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "core/check.h"

namespace moxie::nn {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void throw_cannot_write(const std::string& path, const std::string& reason) {
  throw std::runtime_error(fmt::format("write: can't write '{}': {}", path, reason));
}

std::string words(int error) { return std::generic_category().message(error); }

fs::path folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? fs::path(".") : folder;
}

std::string follow_link(const std::string& path) {
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;
  const fs::path target = fs::canonical(path, error);
  if (error) throw_cannot_write(path, "the link leads nowhere (" + error.message() + ")");
  return target.string();
}

// Removes temporaries of `path` that no living process holds a lock on.
void remove_leftovers(const std::string& path) {
  const std::string prefix = fs::path(path).filename().string() + ".tmp-";
  std::error_code error;
  for (fs::directory_iterator it(folder_of(path), error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().rfind(prefix, 0) != 0) continue;
    const int descriptor = ::open(it->path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(it->path().c_str());
    ::close(descriptor);
  }
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(follow_link(path)) {
  std::error_code error;
  const fs::file_status status = fs::status(path_, error);
  if (fs::is_directory(status)) throw_cannot_write(path, "there is a folder of that name");
  if (fs::exists(status) && !fs::is_regular_file(status)) throw_cannot_write(path, "that is no regular file");
  remove_leftovers(path_);
  static std::atomic<uint64_t> counter{0};
  temporary_ = fmt::format("{}.tmp-{}-{}", path_, ::getpid(), counter++);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor_ < 0) {
    const int reason = errno;
    throw_cannot_write(path, words(reason) + (reason == ENOENT ? "; create the folder first" : ""));
  }
  // Another writer may take the new file for a leftover until it is locked; commit() then fails on the rename.
  ::flock(descriptor_, LOCK_EX | LOCK_NB);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (descriptor_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(descriptor_);
  descriptor_ = -1;
}

void AtomicFile::fail(const char* what) {
  const int reason = errno;
  discard();
  throw_cannot_write(path_, fmt::format("{}: {}; a file that was there before is untouched", what, words(reason)));
}

void AtomicFile::write(const void* data, size_t bytes) {
  check_internal(descriptor_ >= 0, "AtomicFile: written to after commit() or a failure");
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, from, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("writing failed");
    from += written;
    bytes -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  check_internal(descriptor_ >= 0, "AtomicFile: committed twice or after a failure");
  if (::fsync(descriptor_) != 0) fail("flushing to the disk failed");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("renaming failed");
  ::close(descriptor_);
  descriptor_ = -1;
  // The rename itself must reach the disk too; file systems that can't flush a folder say EINVAL.
  const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  const int result = ::fsync(folder);
  const int reason = errno;
  ::close(folder);
  if (result != 0 && reason != EINVAL) {
    throw_cannot_write(path_, "flushing the folder failed: " + words(reason));
  }
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace moxie::nn
