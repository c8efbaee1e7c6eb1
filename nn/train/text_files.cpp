// SPDX-License-Identifier: Apache-2.0
#include "nn/train/text_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "core/check.h"

namespace moxie::train {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void throw_cannot_read(const std::string& path, const std::string& reason) {
  throw std::runtime_error(fmt::format("data: can't read '{}': {}", path, reason));
}

bool hidden(const fs::path& path) {
  const std::string name = path.filename().string();
  return !name.empty() && name[0] == '.';
}

}  // namespace

std::vector<std::string> list_text_files(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  check(status.type() != fs::file_type::not_found, "data: there is no file or folder '{}'", path);
  if (error) throw_cannot_read(path, error.message());
  if (fs::is_regular_file(status)) return {path};
  check(fs::is_directory(status), "data: '{}' is neither a file nor a folder", path);
  std::vector<std::string> files;
  fs::recursive_directory_iterator it(path, error), end;
  if (error) throw_cannot_read(path, error.message());
  while (it != end) {
    const fs::directory_entry entry = *it;
    std::error_code ignored;  // a link that leads nowhere is no regular file
    if (hidden(entry.path())) {
      it.disable_recursion_pending();
    } else if (entry.is_regular_file(ignored)) {
      files.push_back(entry.path().string());
    }
    it.increment(error);
    if (error) throw_cannot_read(entry.path().string(), error.message());
  }
  std::sort(files.begin(), files.end());
  check(!files.empty(), "data: the folder '{}' holds no files (hidden ones are left out)", path);
  return files;
}

std::string read_text_file(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw_cannot_read(path, std::generic_category().message(errno));
  struct stat status {};
  std::string text;
  if (::fstat(descriptor, &status) == 0 && status.st_size > 0) text.resize(static_cast<size_t>(status.st_size));
  size_t done = 0;
  char more[4096];  // a file may have grown since its size was asked
  while (true) {
    const bool whole = done == text.size();
    const ssize_t count =
        whole ? ::read(descriptor, more, sizeof more) : ::read(descriptor, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const std::string reason = std::generic_category().message(errno);
      ::close(descriptor);
      throw_cannot_read(path, reason);
    }
    if (count == 0) break;
    if (whole) text.append(more, static_cast<size_t>(count));
    done += static_cast<size_t>(count);
  }
  ::close(descriptor);
  text.resize(done);
  return text;
}

}  // namespace moxie::train
