// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/training.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "autograd/profile.h"
#include "examples/train_lm/evaluation.h"
#include "examples/train_lm/text.h"
#include "nn/atomic_file.h"
#include "nn/train/interrupt.h"
#include "nn/train/memory.h"
#include "nn/train/metrics.h"
#include "nn/train/progress.h"
#include "nn/train/tokenizer.h"

namespace moxie::train_lm {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t untimed_steps = 3;  // the first steps ask the system for memory
constexpr int64_t sample_on_the_way = 160;

// Columns with "ms", "per_s" or "memory" in their names depend on the machine; all others come back exactly.
const std::vector<std::string> columns{"step",          "loss",     "validation_loss", "balance",       "z",
                                       "load_loss",     "erc",      "erc_violations",  "max_over_mean", "dead",
                                       "gradient_norm", "lr",       "epoch",           "step_ms",       "tokens_per_s",
                                       "gflop_per_s",   "memory_mb"};

std::optional<double> if_measured(double value) { return std::isnan(value) ? std::nullopt : std::optional(value); }

class Loop final {
 public:
  Loop(Run& run, const Files& files, const Command& command, Clock::time_point start, bool is_new)
      : run_(run),
        c_(run.configuration),
        files_(files),
        command_(command),
        start_(start),
        log_(files.folder, columns, is_new ? std::nullopt : std::optional(run.step)),
        saved_step_(is_new ? -1 : run.step),
        flops_(moe::training_flops(c_.model, c_.tokens_per_step(), c_.context)) {
    if (is_new) measure_beginning();
  }

  void go() {
    while ((c_.steps == 0 || run_.step < c_.steps) && !stops()) step();
    read_pending();  // a signal may come at any time
    if (saved_step_ != run_.step && run_.step > 0) save_now();
  }

 private:
  bool stops() const { return train::interrupted() || (command_.stop_at > 0 && run_.step >= command_.stop_at); }

  // The validation loss of the untrained model; and how long validation and sampling take.
  void measure_beginning() {
    train::StepTimer batches;
    Clock::time_point before = Clock::now();
    const auto lap = [&] {
      const double seconds = seconds_since(before);
      before = Clock::now();
      return seconds;
    };
    const auto first = evaluate(run_, c_.eval_batches, [&] {
      batches.add(lap());
      return true;
    });
    batches.add(lap());
    batch_seconds_ = batches.seconds_per_step();
    run_.initial_validation_loss = first->loss;
    if (first->tokens > 0)
      fmt::print("before training: validation loss {:.4f} (a uniform guess: 5.5452)\n", first->loss);
    if (c_.steps > 0) return;
    continue_text(run_, prompt_of(run_), 8);  // the first time is slower
    lap();
    continue_text(run_, prompt_of(run_), 16);
    byte_seconds_ = lap() / 16;
  }

  void step() {
    if (pending_.empty()) started_ = Clock::now();
    pending_.push_back(guarded(run_.step + 1, [&] { return start_step(run_); }));
    if (must_read()) read_pending();
  }

  void read_pending() {
    if (pending_.empty()) return;
    std::vector<StepResult> results;
    for (const PendingStep& pending : pending_)
      results.push_back(guarded(pending.step, [&] { return pending.read(); }));
    const double seconds = seconds_since(started_) / static_cast<double>(pending_.size());
    pending_.clear();
    for (const StepResult& result : results) {
      run_.load.add(result.loads);
      timer_.add(seconds);
      if (result.step > untimed_steps) timed_.push_back(seconds);
      if (result.step < run_.step) finish_step(result, seconds, nan, nan);
    }
    finish_last_step(results.back(), seconds);
  }

  // A GPU runs ahead of the program, which waits for it where it needs numbers and every so many steps. On the CPU a
  // step's numbers are there at once.
  bool must_read() const {
    constexpr size_t most_pending = 16;
    const int64_t step = run_.step, evaluation = c_.eval_interval(), sampling = c_.sample_interval();
    const auto every = [&](int64_t interval) { return interval > 0 && step % interval == 0; };
    return run_.model.device().is_cpu() || pending_.size() >= most_pending || c_.steps == 0 || step == 1 ||
           step == c_.steps || every(evaluation) || every(sampling) || every(command_.log_every) || saving_is_due() ||
           stops();
  }
  bool saving_is_due() const {
    return command_.save_every > 0 ? run_.step % command_.save_every == 0 : seconds_since(saved_) >= 60;
  }

  void finish_last_step(const StepResult& result, double seconds) {
    if (c_.steps == 0) fix_steps();
    const bool is_last = run_.step == c_.steps;
    double validation = nan, violated = nan;
    const int64_t interval = c_.eval_interval();
    if (interval > 0 && (run_.step % interval == 0 || is_last)) {
      validation = guarded(run_.step, [&] { return validation_loss(); });
      if (const auto count = total_violations(run_)) violated = static_cast<double>(*count);
    }
    finish_step(result, seconds, validation, violated);
    const int64_t sampling = c_.sample_interval();
    if (sampling > 0 && run_.step % sampling == 0 && !is_last && !stops()) print_sample();
    if (c_.steps > 0 && saving_is_due()) save_now();
  }

  void finish_step(const StepResult& result, double seconds, double validation, double violated) {
    write_metrics(result, seconds, validation, violated);
    print_line(result, validation, result.step == c_.steps);
  }

  // What goes wrong in a step is said together with what is saved. A model that isn't finite any more never is.
  template <class F> std::invoke_result_t<F> guarded(int64_t number, F&& f) {
    try {
      return f();
    } catch (const std::exception& error) {
      const std::string kept =
          saved_step_ > 0 ? fmt::format("'{}' has step {}", files_.checkpoint(), saved_step_) : "nothing was saved yet";
      throw std::runtime_error(fmt::format("training stopped in step {}, {}: {}", number, kept, error.what()));
    }
  }

  double validation_loss() {
    const auto result = evaluate(run_, c_.eval_batches);
    if (result->tokens > 0 && !std::isfinite(result->loss)) {
      throw std::runtime_error(fmt::format("the validation loss is {}; lower the learning rate", result->loss));
    }
    return result->loss;
  }

  // --minutes: once enough steps are timed, how many fit is settled, and stored with the run.
  void fix_steps() {
    const double elapsed = seconds_since(start_), budget = 60 * c_.minutes;
    if (run_.step < timed_steps && elapsed < 0.4 * budget && !stops()) return;
    // The mean, since slow steps take part of the time; but a single hiccup of the machine doesn't count in full.
    const double median = timer_.seconds_per_step();
    double sum = 0;
    for (const double seconds : timed_) sum += std::min(seconds, 2 * median);
    Costs costs;
    costs.step = timed_.empty() ? median : sum / static_cast<double>(timed_.size());
    costs.validation = static_cast<double>(c_.eval_batches) * batch_seconds_;
    costs.sample = sample_on_the_way * byte_seconds_;
    // The last validation takes at most a tenth of the time.
    const int64_t batch_tokens = c_.tokens_per_step() / c_.micro_batches;
    const int64_t all = run_.data.validation_bytes() / batch_tokens + 1, limit = final_batches(c_);
    const int64_t affordable =
        std::max(c_.eval_batches, static_cast<int64_t>(0.1 * budget / std::max(batch_seconds_, 1e-6)));
    int64_t batches = limit == 0 ? all : std::min(limit, all);
    if (batches > affordable) {
      batches = affordable;
      c_.final_tokens = batches * batch_tokens;
    }
    costs.end = static_cast<double>(batches) * batch_seconds_ + static_cast<double>(c_.sample_bytes) * byte_seconds_ +
                plot_seconds();
    c_.steps = steps_within(budget, elapsed, run_.step, costs, c_);
    save_configuration(run_, files_);
    fmt::print("a step takes {:.0f} ms: {} steps until {}\n", 1000 * costs.step, c_.steps,
               train::format_duration(budget));
  }
  double plot_seconds() const { return 1.5 + 0.2 * static_cast<double>(c_.model.layers); }

  void write_metrics(const StepResult& result, double seconds, double validation, double violated) {
    const auto tokens = static_cast<double>(c_.tokens_per_step());
    log_.write({static_cast<double>(result.step), result.loss, validation, result.balance, result.z, result.load_loss,
                result.erc, violated, result.max_over_mean, static_cast<double>(result.dead), result.gradient_norm,
                result.learning_rate,
                static_cast<double>(result.step) / run_.data.steps_per_epoch(c_.batch, c_.context), 1000 * seconds,
                tokens / seconds, flops_ / seconds * 1e-9, static_cast<double>(train::resident_bytes()) * 1e-6});
  }

  // One line at least every so often; its loss is the mean since the line before.
  void print_line(const StepResult& result, double validation, bool is_last) {
    losses_ += result.loss;
    ++lines_steps_;
    const double every = std::clamp(timer_.seconds_per_step() * static_cast<double>(c_.steps) / 100, 2.0, 60.0);
    const bool is_due = command_.log_every > 0 ? result.step % command_.log_every == 0
                                               : result.step == 1 || seconds_since(printed_) >= every;
    if (!is_due && !is_last && std::isnan(validation) && !stops()) return;
    const double seconds = timer_.seconds_per_step();
    train::Progress line;
    line.step = result.step;
    line.steps = c_.steps;
    line.loss = losses_ / static_cast<double>(lines_steps_);
    line.validation_loss = if_measured(validation);
    line.balance_loss = if_measured(result.balance);
    line.erc_loss = if_measured(result.erc);
    line.load_max_over_mean = if_measured(result.max_over_mean);
    line.gradient_norm = result.gradient_norm;
    line.learning_rate = result.learning_rate;
    line.seconds_per_step = seconds;
    line.tokens_per_second = static_cast<double>(c_.tokens_per_step()) / seconds;
    line.flops_per_second = flops_ / seconds;
    line.memory_bytes = train::resident_bytes();
    if (c_.steps > 0) line.seconds_left = timer_.seconds_left(c_.steps - result.step);
    std::string text = train::format_progress(line);
    if (c_.steps == 0) text.replace(text.find("/0"), 2, "/?");
    fmt::print("{}\n", text);
    std::fflush(stdout);
    printed_ = Clock::now();
    losses_ = 0;
    lines_steps_ = 0;
  }

  void print_sample() {
    const std::string prompt = prompt_of(run_);
    fmt::print("-- sample after step {} --\n{}\n--\n", run_.step,
               train::printable(prompt + "|" + continue_text(run_, prompt, sample_on_the_way)));
    std::fflush(stdout);
  }

  void save_now() {
    save(run_, files_);
    saved_step_ = run_.step;
    saved_ = Clock::now();
  }

  Run& run_;
  Configuration& c_;
  const Files& files_;
  const Command& command_;
  Clock::time_point start_, saved_ = Clock::now(), printed_ = Clock::now();
  Clock::time_point started_;  // when the first of the pending steps was
  std::vector<PendingStep> pending_;
  train::MetricsLog log_;
  int64_t saved_step_;
  double flops_;
  train::StepTimer timer_;
  std::vector<double> timed_;
  double batch_seconds_ = 0, byte_seconds_ = 0;
  double losses_ = 0;
  int64_t lines_steps_ = 0;
};

}  // namespace

void train(Run& run, const Files& files, const Command& command, Clock::time_point start, bool is_new) {
  Loop(run, files, command, start, is_new).go();
}

void profile(Run& run, const Files& files, int64_t steps) {
  constexpr int64_t first_steps = 5;  // which ask the system for memory
  for (int64_t i = 0; i < first_steps; ++i) start_step(run).read();
  const Profiler profiler(run.model.device());
  const Clock::time_point before = Clock::now();
  std::vector<PendingStep> pending;
  for (int64_t i = 0; i < steps; ++i) pending.push_back(start_step(run));
  for (const PendingStep& step : pending) step.read();
  Profiler::mark("reading the results");
  const double milliseconds = 1000 * seconds_since(before) / static_cast<double>(steps);
  fmt::print("{} steps of {:.2f} ms\n\n{}\n", steps, milliseconds, profiler.table());
  nn::write_file(files.path("trace.json"), profiler.trace());
  fmt::print("{}: open it at https://ui.perfetto.dev\n", files.path("trace.json"));
}

int64_t steps_within(double budget, double elapsed, int64_t done, const Costs& costs, const Configuration& c) {
  const double evaluations = c.eval_every > 0 ? 1 / static_cast<double>(c.eval_every) : 0;
  const double samples = c.sample_every > 0 ? 1 / static_cast<double>(c.sample_every) : 0;
  double left = budget - elapsed - costs.end;
  if (c.eval_every == 0) left -= 12 * costs.validation;
  if (c.sample_every < 0) left -= 3 * costs.sample;
  const double each = costs.step + evaluations * costs.validation + samples * costs.sample;
  return done + std::max<int64_t>(1, static_cast<int64_t>(std::min(left / each, 4e9 - static_cast<double>(done))));
}

}  // namespace moxie::train_lm
