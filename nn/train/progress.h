// SPDX-License-Identifier: Apache-2.0
// The words of a progress line. Nothing here prints.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

namespace moxie::train {

// "0.8s", "45s", "4m31s", "1h02m", "2d03h"; "?" for what is negative, infinite or NaN.
std::string format_duration(double seconds);
// Three digits and a decimal unit: "0 B", "512 MB", "1.25 GB".
std::string format_bytes(double bytes);
// Three digits and a decimal suffix: "950", "18.2k", "1.31M", "2.40G".
std::string format_count(double count);
// "31.2 GFLOP/s", "1.24 TFLOP/s", from operations per second.
std::string format_flops(double flops_per_second);

// What one line reports. Absent parts are left out, except validation_loss, whose column stays so that lines align;
// a NaN shows as nan.
struct Progress {
  int64_t step = 0;
  int64_t steps = 0;  // of the whole run
  double loss = 0;    // nats per token
  std::optional<double> validation_loss = std::nullopt;
  std::optional<double> balance_loss = std::nullopt;
  std::optional<double> erc_loss = std::nullopt;
  std::optional<double> load_max_over_mean = std::nullopt;
  std::optional<double> gradient_norm = std::nullopt;
  std::optional<double> learning_rate = std::nullopt;
  std::optional<double> seconds_per_step = std::nullopt;
  std::optional<double> tokens_per_second = std::nullopt;
  std::optional<double> flops_per_second = std::nullopt;
  std::optional<int64_t> memory_bytes = std::nullopt;
  std::optional<double> seconds_left = std::nullopt;
};

// " 120/1377  loss 2.3145  val 2.2981  balance 1.0213  ...  left 4m31s", without a line end.
std::string format_progress(const Progress& progress);

// Remembers the times of the last steps. Their median is robust: one slow step (an evaluation, another program) does
// not move it.
class StepTimer final {
 public:
  explicit StepTimer(int64_t window = 50);
  // Throws std::invalid_argument for a negative or non-finite time.
  void add(double seconds);
  // The median of the last `window` steps; 0 before the first.
  double seconds_per_step() const;
  // How long `steps` more steps take; nullopt before the first.
  std::optional<double> seconds_left(int64_t steps) const;

 private:
  size_t window_;
  std::deque<double> times_;
};

}  // namespace moxie::train
