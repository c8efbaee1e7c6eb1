// SPDX-License-Identifier: Apache-2.0
#include "nn/train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <system_error>

#include "core/check.h"
#include "nn/atomic_file.h"
#include "nn/train/text_files.h"

namespace moxie::train {
namespace {

using Json = nlohmann::ordered_json;

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    if (!text.empty()) text += ',';
    text += name;
  }
  return text;
}

std::string csv_row(const std::vector<double>& values) {
  std::string line;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) line += ',';
    line += std::isnan(values[i]) ? "nan" : fmt::format("{}", values[i]);
  }
  return line + "\n";
}

std::string jsonl_row(const std::vector<std::string>& columns, const std::vector<double>& values) {
  std::string line = "{";
  for (size_t i = 0; i < values.size(); ++i) {
    line += fmt::format("{}\"{}\": {}", i > 0 ? ", " : "", columns[i],
                        std::isfinite(values[i]) ? fmt::format("{}", values[i]) : "null");
  }
  return line + "}\n";
}

void check_columns(const std::vector<std::string>& columns) {
  check(!columns.empty() && columns[0] == "step", "metrics: the first column must be 'step', got '{}'",
        columns.empty() ? "" : columns[0]);
  std::set<std::string> seen;
  for (const std::string& name : columns) {
    check(seen.insert(name).second, "metrics: the column '{}' appears twice", name);
    const bool plain = std::all_of(name.begin(), name.end(),
                                   [](char c) { return c > 0x20 && c < 0x7F && c != ',' && c != '"' && c != '\\'; });
    check(!name.empty() && plain, "metrics: column names are ASCII without spaces, commas and quotes, got '{}'", name);
  }
}

std::vector<std::string_view> cut(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// The lines that have their line end: the last one may have been cut off.
std::vector<std::string_view> whole_lines(std::string_view text) {
  std::vector<std::string_view> lines = cut(text, '\n');
  lines.pop_back();
  for (std::string_view& line : lines)
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return lines;
}

Metrics parse_csv(const std::string& path, std::string_view text) {
  Metrics metrics;
  const std::vector<std::string_view> lines = whole_lines(text);
  check(!lines.empty(), "metrics: '{}' has no header line", path);
  for (const std::string_view name : cut(lines[0], ',')) metrics.columns.emplace_back(name);
  check_columns(metrics.columns);
  for (size_t i = 1; i < lines.size(); ++i) {
    std::vector<double> row;
    for (const std::string_view cell : cut(lines[i], ',')) {
      double value = 0;
      const auto [stop, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
      check(error == std::errc{} && stop == cell.data() + cell.size(), "metrics: '{}' line {}: '{}' is no number", path,
            i + 1, cell);
      row.push_back(value);
    }
    check(row.size() == metrics.columns.size(), "metrics: '{}' line {}: {} values in {} columns", path, i + 1,
          row.size(), metrics.columns.size());
    metrics.rows.push_back(std::move(row));
  }
  return metrics;
}

// A flat object of numbers and nulls; anything nested is refused before it is built.
Json parse_flat(std::string_view line) {
  const auto shallow = [](int depth, Json::parse_event_t event, Json&) {
    if (depth > 1 || event == Json::parse_event_t::array_start) throw_invalid_argument("nested");
    return true;
  };
  return Json::parse(line.begin(), line.end(), shallow);
}

Metrics parse_jsonl(const std::string& path, std::string_view text) {
  Metrics metrics;
  const std::vector<std::string_view> lines = whole_lines(text);
  for (size_t i = 0; i < lines.size(); ++i) {
    std::vector<std::string> names;
    std::vector<double> row;
    try {
      const Json object = parse_flat(lines[i]);
      check(object.is_object(), "not an object");
      for (const auto& [name, value] : object.items()) {
        names.push_back(name);
        row.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
      }
    } catch (const std::exception&) {
      throw_invalid_argument(fmt::format("metrics: '{}' line {}: no JSON object of numbers", path, i + 1));
    }
    if (i == 0) {
      metrics.columns = names;
      check_columns(names);
    }
    check(names == metrics.columns, "metrics: '{}' line {}: other columns than in line 1", path, i + 1);
    metrics.rows.push_back(std::move(row));
  }
  return metrics;
}

// The rows of an earlier run up to `last_step`, from whichever file is there; nothing where none is.
std::vector<std::vector<double>> rows_to_keep(const std::string& csv_path, const std::string& jsonl_path,
                                              const std::vector<std::string>& columns, int64_t last_step) {
  for (const std::string& path : {csv_path, jsonl_path}) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (error || size == 0) continue;
    Metrics before = read_metrics(path);
    check(before.columns == columns || before.rows.empty(),
          "metrics: '{}' has the columns {}, this run writes {}; move the file away to begin a new one", path,
          joined(before.columns), joined(columns));
    std::erase_if(before.rows, [&](const auto& row) { return !(row[0] <= static_cast<double>(last_step)); });
    return std::move(before.rows);
  }
  return {};
}

int open_to_append(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor < 0) {
    throw std::runtime_error(fmt::format("metrics: can't open '{}': {}", path, std::generic_category().message(errno)));
  }
  return descriptor;
}

void append(int descriptor, const std::string& path, std::string_view line) {
  while (!line.empty()) {
    const ssize_t count = ::write(descriptor, line.data(), line.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw std::runtime_error(
          fmt::format("metrics: can't write '{}': {}", path, std::generic_category().message(errno)));
    }
    line.remove_prefix(static_cast<size_t>(count));
  }
}

}  // namespace

std::vector<double> Metrics::column(const std::string& name) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  check(found != columns.end(), "metrics: there is no column '{}', only {}", name, joined(columns));
  std::vector<double> values;
  for (const std::vector<double>& row : rows) values.push_back(row[static_cast<size_t>(found - columns.begin())]);
  return values;
}

Metrics read_metrics(const std::string& path) {
  const std::string text = read_text_file(path);
  return std::filesystem::path(path).extension() == ".jsonl" ? parse_jsonl(path, text) : parse_csv(path, text);
}

MetricsLog::MetricsLog(const std::string& folder, const std::vector<std::string>& columns,
                       std::optional<int64_t> resume_step)
    : columns_(columns),
      csv_path_((std::filesystem::path(folder) / "metrics.csv").string()),
      jsonl_path_((std::filesystem::path(folder) / "metrics.jsonl").string()) {
  check_columns(columns);
  std::string csv = joined(columns) + "\n", jsonl;
  if (resume_step) {
    for (const std::vector<double>& row : rows_to_keep(csv_path_, jsonl_path_, columns, *resume_step)) {
      csv += csv_row(row);
      jsonl += jsonl_row(columns, row);
    }
  }
  nn::write_file(csv_path_, csv);
  nn::write_file(jsonl_path_, jsonl);
  csv_ = open_to_append(csv_path_);
  try {
    jsonl_ = open_to_append(jsonl_path_);
  } catch (...) {
    ::close(csv_);
    throw;
  }
}

MetricsLog::~MetricsLog() {
  ::close(csv_);
  ::close(jsonl_);
}

void MetricsLog::write(const std::vector<double>& values) {
  check(values.size() == columns_.size(), "metrics: {} values for {} columns", values.size(), columns_.size());
  check(values[0] == std::floor(values[0]) && std::isfinite(values[0]),
        "metrics: the step must be a whole number, got {}", values[0]);
  append(csv_, csv_path_, csv_row(values));
  append(jsonl_, jsonl_path_, jsonl_row(columns_, values));
}

}  // namespace moxie::train
