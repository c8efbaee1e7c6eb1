// SPDX-License-Identifier: Apache-2.0
// nn/train/metrics.h: both files say the same, also after a resume.
#include "nn/train/metrics.h"

#include <doctest/doctest.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/system_limits.h"
#include "tests/temporary_folder.h"

using namespace moxie::train;
using namespace moxie::test;

namespace {

const std::vector<std::string> columns{"step", "loss", "validation_loss"};
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void write_steps(MetricsLog& log, int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; ++step) {
    const double s = static_cast<double>(step);
    log.write({s, 5 / (s + 1), nan_value});
  }
}

}  // namespace

TEST_CASE("MetricsLog: both files, flushed line by line") {
  const TemporaryFolder folder;
  MetricsLog log(folder.path(), columns);
  CHECK(contents_of(log.csv_path()) == "step,loss,validation_loss\n");
  CHECK(contents_of(log.jsonl_path()) == "");
  log.write({10, 2.5, nan_value});
  log.write({20, 0.1, -infinity});
  CHECK(contents_of(folder / "metrics.csv") == "step,loss,validation_loss\n10,2.5,nan\n20,0.1,-inf\n");
  CHECK(contents_of(folder / "metrics.jsonl") ==
        "{\"step\": 10, \"loss\": 2.5, \"validation_loss\": null}\n"
        "{\"step\": 20, \"loss\": 0.1, \"validation_loss\": null}\n");
  for (const std::string& line : lines_of(contents_of(folder / "metrics.jsonl"))) {
    CHECK(nlohmann::json::parse(line).size() == 3);
  }
}

TEST_CASE("read_metrics: numbers come back exactly from both") {
  const TemporaryFolder folder;
  MetricsLog log(folder.path(), columns);
  const std::vector<std::vector<double>> rows{
      {0, 1.0 / 3, 1e-300}, {1, nan_value, 123456789.0123}, {1e15, -0.0, 5e-324}, {1e16 + 2, 3e38, 0.1}};
  for (const auto& row : rows) log.write(row);
  for (const std::string& path : {log.csv_path(), log.jsonl_path()}) {
    const Metrics metrics = read_metrics(path);
    CHECK(metrics.columns == columns);
    REQUIRE(metrics.rows.size() == rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      for (size_t k = 0; k < 3; ++k) {
        CHECK((metrics.rows[i][k] == rows[i][k] || (std::isnan(metrics.rows[i][k]) && std::isnan(rows[i][k]))));
      }
    }
  }
  CHECK(read_metrics(log.csv_path()).column("validation_loss")[1] == 123456789.0123);
  CHECK(contains(message_of<std::invalid_argument>([&] { read_metrics(log.csv_path()).column("time"); }),
                 "there is no column 'time', only step,loss,validation_loss"));
}

TEST_CASE("MetricsLog: a resume drops what came after the checkpoint and goes on") {
  const TemporaryFolder folder;
  {
    MetricsLog log(folder.path(), columns);
    write_steps(log, 1, 9);
  }
  const std::string jsonl = contents_of(folder / "metrics.jsonl"), csv = contents_of(folder / "metrics.csv");
  {
    MetricsLog log(folder.path(), columns, 6);
    CHECK(read_metrics(log.csv_path()).rows.size() == 6);
    CHECK(read_metrics(log.jsonl_path()).rows.size() == 6);
    write_steps(log, 7, 9);
  }
  CHECK(contents_of(folder / "metrics.csv") == csv);
  CHECK(contents_of(folder / "metrics.jsonl") == jsonl);
  MetricsLog{folder.path(), columns, 0};
  CHECK(contents_of(folder / "metrics.jsonl") == "");
  MetricsLog{folder.path(), columns};
  CHECK(contents_of(folder / "metrics.csv") == "step,loss,validation_loss\n");
  CHECK(folder.files() == 2);
}

TEST_CASE("MetricsLog: a resume after a line was cut off, or one file was lost") {
  const TemporaryFolder folder;
  {
    MetricsLog log(folder.path(), columns);
    write_steps(log, 1, 3);
  }
  const std::string csv = contents_of(folder / "metrics.csv"), jsonl = contents_of(folder / "metrics.jsonl");
  folder.write("metrics.csv", csv + "4,1.");
  MetricsLog{folder.path(), columns, 100};
  CHECK(contents_of(folder / "metrics.csv") == csv);
  std::filesystem::remove(folder / "metrics.csv");
  MetricsLog{folder.path(), columns, 100};
  CHECK(contents_of(folder / "metrics.csv") == csv);
  std::filesystem::remove(folder / "metrics.jsonl");
  MetricsLog{folder.path(), columns, 100};
  CHECK(contents_of(folder / "metrics.jsonl") == jsonl);
  std::filesystem::remove(folder / "metrics.csv");
  std::filesystem::remove(folder / "metrics.jsonl");
  MetricsLog{folder.path(), columns, 100};
  CHECK(contents_of(folder / "metrics.csv") == "step,loss,validation_loss\n");
}

TEST_CASE("MetricsLog: what it refuses leaves the files as they were") {
  const TemporaryFolder folder;
  {
    MetricsLog log(folder.path(), columns);
    write_steps(log, 1, 3);
  }
  const std::string csv = contents_of(folder / "metrics.csv");
  const auto message = [&](const std::vector<std::string>& names) {
    return message_of<std::invalid_argument>([&] { MetricsLog(folder.path(), names, 3); });
  };
  CHECK(contains(message({"step", "loss"}),
                 "has the columns step,loss,validation_loss, this run writes step,loss; move the file away"));
  CHECK(contains(message({}), "the first column must be 'step', got ''"));
  CHECK(contains(message({"loss", "step"}), "the first column must be 'step', got 'loss'"));
  CHECK(contains(message({"step", "a", "a"}), "the column 'a' appears twice"));
  for (const char* name : {"", "a b", "a,b", "a\"b", "a\n", "\xc3\xa9"}) {
    CHECK(contains(message({"step", name}), "column names are ASCII"));
  }
  CHECK(contents_of(folder / "metrics.csv") == csv);
  MetricsLog log(folder.path(), columns, 3);
  CHECK(contains(message_of<std::invalid_argument>([&] { log.write({1, 2}); }), "2 values for 3 columns"));
  CHECK(contains(message_of<std::invalid_argument>([&] { log.write({1.5, 2, 3}); }), "whole number, got 1.5"));
  CHECK(contains(message_of<std::invalid_argument>([&] { log.write({nan_value, 2, 3}); }), "whole number, got nan"));
  CHECK(contents_of(folder / "metrics.csv") == csv);
  CHECK(contains(message_of<std::runtime_error>([&] { MetricsLog(folder / "none", columns); }), "create the folder"));
}

TEST_CASE("read_metrics: bad files are refused with the line") {
  const TemporaryFolder folder;
  const auto message = [&](const char* name, const std::string& text) {
    const std::string path = folder.write(name, text);
    return message_of<std::invalid_argument>([&] { read_metrics(path); });
  };
  CHECK(contains(message("a.csv", ""), "has no header line"));
  CHECK(contains(message("a.csv", "step,loss"), "has no header line"));
  CHECK(contains(message("a.csv", "time,loss\n"), "first column must be 'step', got 'time'"));
  CHECK(contains(message("a.csv", "step,loss\n1,2\n2,x\n"), "line 3: 'x' is no number"));
  CHECK(contains(message("a.csv", "step,loss\n1,2 \n"), "line 2: '2 ' is no number"));
  CHECK(contains(message("a.csv", "step,loss\n1,\n"), "line 2: '' is no number"));
  CHECK(contains(message("a.csv", "step,loss\n1\n"), "line 2: 1 values in 2 columns"));
  CHECK(contains(message("a.csv", "step,loss\n1,2,3\n"), "line 2: 3 values in 2 columns"));
  CHECK(message("a.csv", "step,loss\r\n1,2\r\n") == "");
  CHECK(contains(message("a.jsonl", "{}\n"), "first column must be 'step', got ''"));
  CHECK(contains(message("a.jsonl", "1\n"), "line 1"));
  CHECK(contains(message("a.jsonl", "{\"step\": 1}\n{\"step\": \"2\"}\n"), "line 2: no JSON object of numbers"));
  CHECK(
      contains(message("a.jsonl", "{\"step\": 1}\n{\"step\": 2, \"a\": 1}\n"), "line 2: other columns than in line 1"));
  CHECK(contains(message("a.jsonl", fmt::format("{{\"step\": 1, \"a\": {}\n", std::string(100'000, '['))),
                 "line 1: no JSON"));
  CHECK(contains(message("a.jsonl", "{\"step\": 1, \"a\": {}}\n"), "line 1: no JSON"));
  CHECK(message_of<std::runtime_error>([&] { read_metrics(folder / "none.csv"); }) ==
        "data: can't read '" + folder / "none.csv" + "': No such file or directory");
}

TEST_CASE("MetricsLog: no file descriptor left for the second file") {
  const TemporaryFolder folder;
  ::chmod(folder.path().c_str(), 0777);
  const std::string message = as_ordinary_user([&] {  // a process of its own: the limit holds for all of it
    const int next = ::dup(0);
    ::close(next);
    struct rlimit limit {};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = static_cast<rlim_t>(next) + 1;  // enough for one file at a time
    ::setrlimit(RLIMIT_NOFILE, &limit);
    return message_of<std::runtime_error>([&] { MetricsLog(folder.path(), columns); });
  });
  CHECK(contains(message, "metrics: can't open '" + folder / "metrics.jsonl" + "': Too many open files"));
}

TEST_CASE("MetricsLog: a full disk is an error, not a silence") {
  const TemporaryFolder folder;
  const SmallDisk disk(folder.path(), 64);
  if (!disk.mounted()) {
    MESSAGE("skipped: mounting a small file system needs root");
    return;
  }
  MetricsLog log(folder.path(), columns);
  const std::string message = message_of<std::runtime_error>([&] { write_steps(log, 1, 100'000); });
  CHECK(contains(message, "metrics: can't write '" + folder.path()));
  CHECK(contains(message, "No space left on device"));
}
