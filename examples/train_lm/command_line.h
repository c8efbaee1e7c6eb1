// SPDX-License-Identifier: Apache-2.0
// The command line of train_lm.
#pragma once
#include <optional>
#include <string>

#include "examples/train_lm/configuration.h"

namespace moxie::train_lm {

enum class Mode { train, resume, evaluate, dry_run, print_config };

// What is to be done; nothing here changes the numbers of a run but its configuration.
struct Command {
  Mode mode = Mode::train;
  Configuration configuration;      // of a new run
  std::optional<std::string> data;  // where the data of a stored run lies now
  std::string out = "runs/train_lm";
  std::string device = "cpu";  // or cuda; a run may go on on another one
  int threads = 0;             // 0: all
  int64_t log_every = 0;       // steps between lines; 0: about every three seconds
  int64_t stop_at = 0;         // step after which to stop as Ctrl-C would; 0: don't
  int64_t save_every = 0;      // steps between checkpoints; 0: every minute
  int64_t profile = 0;         // steps to time op by op in place of training; 0: none
  bool cuda_graph = false;     // repeat steps as one CUDA graph
  bool nvtx = false;           // name ops for NVIDIA's profilers
  bool anomaly = false;        // look for the first NaN or infinity
};

// Parses the arguments; where the program has nothing more to do (--help, a wrong option, --list-presets) it prints
// what it must and returns the exit status. Throws std::invalid_argument for options that exclude each other.
std::variant<Command, int> parse_command_line(int argc, char** argv);

}  // namespace moxie::train_lm
