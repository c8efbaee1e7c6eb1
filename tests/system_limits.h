// SPDX-License-Identifier: Apache-2.0
// What a test does without root's rights, or on a full disk.
#pragma once
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

namespace moxie::test {

// The text that f() returns, run in a process of its own without root's rights (which ignore permissions).
template <class F> std::string as_ordinary_user(F&& f) {
  int ends[2];
  if (::pipe(ends) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    const bool ordinary = ::geteuid() != 0 || (::setgid(65534) == 0 && ::setuid(65534) == 0);
    const std::string text = ordinary ? f() : "can't give up root's rights";
    ::_exit(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text;
  char buffer[512];
  for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  return text;
}

// A file system of `kilobytes` mounted on an empty folder, where the user may mount.
class SmallDisk final {
 public:
  SmallDisk(const std::string& folder, int kilobytes) : folder_(folder) {
    const std::string size = "size=" + std::to_string(kilobytes) + "k";
    mounted_ = ::mount("moxie-test", folder.c_str(), "tmpfs", 0, size.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount(folder_.c_str());
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }

 private:
  std::string folder_;
  bool mounted_ = false;
};

}  // namespace moxie::test
