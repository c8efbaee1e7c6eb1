// SPDX-License-Identifier: Apache-2.0
// The numbers of a run over time, in metrics.csv (spreadsheets) and metrics.jsonl (programs).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moxie::train {

struct Metrics {
  std::vector<std::string> columns;       // the first is "step"
  std::vector<std::vector<double>> rows;  // NaN for what was not measured

  // All values of one column. Throws std::invalid_argument for a name that isn't there.
  std::vector<double> column(const std::string& name) const;
};

// Reads a metrics.csv, or a file of the same content that ends in .jsonl. A last line that was cut off is left out.
// Throws std::invalid_argument naming the line for anything else that is wrong, std::runtime_error where the file can't
// be read.
Metrics read_metrics(const std::string& path);

// Writes both files, line by line, so that a run that dies loses nothing. Numbers are written with as many digits as
// they need to come back exactly; NaN becomes nan (csv) and null (jsonl), as do infinities in jsonl.
class MetricsLog final {
 public:
  // Begins new files in `folder`, which must exist. With `resume_step` continues those that are there: rows with a
  // greater step are dropped from both, the rest stays. Throws std::invalid_argument where the first column is not
  // "step", names repeat, or the files have other columns; std::runtime_error where the system refuses.
  MetricsLog(const std::string& folder, const std::vector<std::string>& columns,
             std::optional<int64_t> resume_step = std::nullopt);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  // Appends one line to each file. Throws std::invalid_argument unless there is one value per column and the step is a
  // whole number, std::runtime_error where the system refuses.
  void write(const std::vector<double>& values);

  const std::string& csv_path() const { return csv_path_; }
  const std::string& jsonl_path() const { return jsonl_path_; }

 private:
  std::vector<std::string> columns_;
  std::string csv_path_;
  std::string jsonl_path_;
  int csv_ = -1;
  int jsonl_ = -1;
};

}  // namespace moxie::train
