// SPDX-License-Identifier: Apache-2.0
#include "nn/train/progress.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/check.h"

namespace moxie::train {
namespace {

// A value of three digits: 1.25, 18.2, 512.
std::string three_digits(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

struct Scaled {
  double value;
  const char* unit;
};

// The value in the largest of `units`, each 1000 times the one before, that leaves it at 1 or more once it is rounded.
template <size_t N> Scaled scaled(double value, const char* const (&units)[N]) {
  size_t i = 0;
  while (i + 1 < N && std::abs(value) >= 999.5) {
    value /= 1000;
    ++i;
  }
  return {value, units[i]};
}

std::string plain_or_nan(double value) { return fmt::format("{:.0f}", value); }

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 9.95) return fmt::format("{:.1f}s", seconds);
  if (seconds >= 1e11) return fmt::format("{:.0f}d", seconds / 86400);
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  const int64_t minutes = (whole + 30) / 60;
  if (minutes < 24 * 60) return fmt::format("{}h{:02}m", minutes / 60, minutes % 60);
  const int64_t hours = (whole + 1800) / 3600;
  return fmt::format("{}d{:02}h", hours / 24, hours % 24);
}

std::string format_bytes(double bytes) {
  const Scaled s = scaled(bytes, {"B", "kB", "MB", "GB", "TB", "PB"});
  const bool whole = s.unit[0] == 'B' || !std::isfinite(s.value);
  return (whole ? plain_or_nan(s.value) : three_digits(s.value)) + " " + s.unit;
}

std::string format_count(double count) {
  const Scaled s = scaled(count, {"", "k", "M", "G", "T"});
  const bool whole = (s.unit[0] == '\0' && s.value == std::round(s.value)) || !std::isfinite(s.value);
  return (whole ? plain_or_nan(s.value) : three_digits(s.value)) + s.unit;
}

std::string format_flops(double flops_per_second) {
  const Scaled s = scaled(flops_per_second / 1e6, {"MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"});
  return (std::isfinite(s.value) ? three_digits(s.value) : plain_or_nan(s.value)) + " " + s.unit;
}

std::string format_progress(const Progress& p) {
  const std::string total = std::to_string(p.steps);
  std::string line = fmt::format("{:>{}}/{}  loss {:.4f}", p.step, total.size(), total, p.loss);
  line += p.validation_loss ? fmt::format("  val {:.4f}", *p.validation_loss) : "  val   -   ";
  const auto add = [&](const char* label, const std::optional<double>& value, auto format) {
    if (value) line += fmt::format("  {}{}", label, format(*value));
  };
  const auto four = [](double v) { return fmt::format("{:.4f}", v); };
  add("balance ", p.balance_loss, four);
  add("erc ", p.erc_loss, four);
  add("load ", p.load_max_over_mean, [](double v) { return fmt::format("{:.2f}", v); });
  add("|g| ", p.gradient_norm, [](double v) { return fmt::format("{:.3f}", v); });
  add("lr ", p.learning_rate, [](double v) { return fmt::format("{:.2e}", v); });
  add("", p.seconds_per_step, [](double v) { return fmt::format("{:>4} ms", three_digits(1000 * v)); });
  add("", p.tokens_per_second, [](double v) { return fmt::format("{:>5} tok/s", format_count(v)); });
  add("", p.flops_per_second, [](double v) { return fmt::format("{:>12}", format_flops(v)); });
  if (p.memory_bytes) line += fmt::format("  {:>7}", format_bytes(static_cast<double>(*p.memory_bytes)));
  add("left ", p.seconds_left, format_duration);
  return line;
}

StepTimer::StepTimer(int64_t window) : window_(static_cast<size_t>(window)) {
  check(window >= 1, "StepTimer: the window must be at least 1, got {}", window);
}

void StepTimer::add(double seconds) {
  check(std::isfinite(seconds) && seconds >= 0, "StepTimer: a time must be finite and not negative, got {}", seconds);
  times_.push_back(seconds);
  if (times_.size() > window_) times_.pop_front();
}

double StepTimer::seconds_per_step() const {
  if (times_.empty()) return 0;
  std::vector<double> sorted(times_.begin(), times_.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  if (sorted.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(sorted.begin(), middle)) / 2;
}

std::optional<double> StepTimer::seconds_left(int64_t steps) const {
  if (times_.empty()) return std::nullopt;
  return seconds_per_step() * static_cast<double>(std::max<int64_t>(steps, 0));
}

}  // namespace moxie::train
