// SPDX-License-Identifier: Apache-2.0
// nn/atomic_file.h: the old file or the new one, nothing between.
#include "nn/atomic_file.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/system_limits.h"
#include "tests/temporary_folder.h"

using namespace moxie::nn;
using namespace moxie::test;

TEST_CASE("AtomicFile: nothing under the name before commit, everything after") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "old");
  {
    AtomicFile file(path);
    file.write("ne");
    file.write("w", 1);
    CHECK(contents_of(path) == "old");
    CHECK(std::filesystem::path(file.temporary_path()).parent_path() == folder.path());
    file.commit();
    CHECK(contents_of(path) == "new");
    CHECK_THROWS_AS(file.write("more"), std::logic_error);
    CHECK_THROWS_AS(file.commit(), std::logic_error);
  }
  CHECK(contents_of(path) == "new");
  CHECK(folder.files() == 1);
}

TEST_CASE("AtomicFile: without commit the temporary is removed") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "old");
  {
    AtomicFile file(path);
    file.write("new");
    CHECK(folder.files() == 2);
  }
  CHECK(contents_of(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("AtomicFile: the temporary of a killed process is removed by the next writer, that of a living one is not") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  folder.write("a.tmp-99-0", "left behind");
  folder.write("ab.tmp-99-0", "another file's");
  AtomicFile first(path);
  CHECK_FALSE(std::filesystem::exists(folder / "a.tmp-99-0"));
  CHECK(std::filesystem::exists(folder / "ab.tmp-99-0"));
  first.write("first");
  AtomicFile second(path);
  second.write("second");
  CHECK(std::filesystem::exists(first.temporary_path()));
  second.commit();
  CHECK(contents_of(path) == "second");
  first.commit();
  CHECK(contents_of(path) == "first");
}

TEST_CASE("AtomicFile: a process killed while it writes leaves the old file") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "old");
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    AtomicFile file(path);
    file.write(std::string(100'000, 'x'));
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(contents_of(path) == "old");
  CHECK(folder.files() == 2);
  write_file(path, "new");
  CHECK(contents_of(path) == "new");
  CHECK(folder.files() == 1);
}

TEST_CASE("AtomicFile: a link is followed, its target replaced") {
  const TemporaryFolder folder;
  const std::string target = folder.write("elsewhere/target", "old");
  std::filesystem::create_symlink(target, folder / "link");
  write_file(folder / "link", "new");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(contents_of(target) == "new");
  std::filesystem::create_symlink(folder / "nothing", folder / "dangling");
  CHECK(contains(message_of<std::runtime_error>([&] { write_file(folder / "dangling", "x"); }),
                 "the link leads nowhere"));
}

TEST_CASE("AtomicFile: folders, devices and missing folders are refused") {
  const TemporaryFolder folder;
  const auto message = [](const std::string& path) {
    return message_of<std::runtime_error>([&] { write_file(path, "x"); });
  };
  CHECK(message(folder.path()) == "write: can't write '" + folder.path() + "': there is a folder of that name");
  CHECK(contains(message("/dev/full"), "that is no regular file"));
  CHECK(contains(message(folder / "none/a"), "No such file or directory; create the folder first"));
  CHECK(contains(message(folder / std::string(300, 'n')), "File name too long"));
  folder.write("file", "x");
  CHECK(contains(message(folder / "file/a"), "Not a directory"));
  CHECK(folder.files() == 1);
}

TEST_CASE("AtomicFile: a write that the system cuts short fails, the old file stays and the temporary goes") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "old");
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = before;
  small.rlim_cur = 10'000;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string message = message_of<std::runtime_error>([&] { write_file(path, std::string(20'000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  CHECK(contains(message, "writing failed: File too large; a file that was there before is untouched"));
  CHECK(contains(message, path));
  CHECK(contents_of(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("AtomicFile: where the temporary vanishes before commit, the old file stays") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "old");
  AtomicFile file(path);
  file.write("new");
  ::unlink(file.temporary_path().c_str());
  CHECK(message_of<std::runtime_error>([&] { file.commit(); }) ==
        "write: can't write '" + path +
            "': renaming failed: No such file or directory; a file that was there before is untouched");
  CHECK(contents_of(path) == "old");
}

TEST_CASE("AtomicFile: a read-only folder is refused, the old file stays") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "old");
  ::chmod(folder.path().c_str(), 0555);
  const std::string message =
      as_ordinary_user([&] { return message_of<std::runtime_error>([&] { write_file(path, "x"); }); });
  ::chmod(folder.path().c_str(), 0755);
  CHECK(message == "write: can't write '" + path + "': Permission denied");
  CHECK(contents_of(path) == "old");
}
