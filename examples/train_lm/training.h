// SPDX-License-Identifier: Apache-2.0
// The training loop: steps, lines on the terminal, metrics, validation, samples and checkpoints.
#pragma once
#include <chrono>
#include <string>

#include "examples/train_lm/command_line.h"
#include "examples/train_lm/run.h"

namespace moxie::train_lm {

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Trains until the run has all its steps, or a signal came (train::interrupted() is true then), or
// `command` says stop; the last state is saved in any case. `start` is when the program began: --minutes counts from
// there. Throws std::runtime_error where the gradient isn't finite or the system refuses to write; the last checkpoint
// is untouched then.
void train(Run& run, const Files& files, const Command& command, Clock::time_point start, bool is_new);

// Makes some steps, times `steps` more op by op, prints where their time went and writes trace.json into the folder,
// which ui.perfetto.dev opens. Nothing is saved.
void profile(Run& run, const Files& files, int64_t steps);

// How many steps a run may have that has made `done` of them in `elapsed` of `budget` seconds.
struct Costs {
  double step = 0;        // seconds of a step
  double validation = 0;  // of a validation on the way
  double sample = 0;      // of a sample on the way
  double end = 0;         // of everything after the last step
};
int64_t steps_within(double budget, double elapsed, int64_t done, const Costs& costs,
                     const Configuration& configuration);

}  // namespace moxie::train_lm
