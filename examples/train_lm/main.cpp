// SPDX-License-Identifier: Apache-2.0
// train_lm: trains a Mixture-of-Experts language model on text and shows what its experts do.
#include <fmt/core.h>

#include <cstdio>
#include <filesystem>
#include <new>
#include <optional>

#include "autograd/anomaly.h"
#include "autograd/op_range.h"
#include "core/parallel.h"
#include "examples/train_lm/command_line.h"
#include "examples/train_lm/describe.h"
#include "examples/train_lm/report.h"
#include "examples/train_lm/training.h"
#include "nn/train/device.h"
#include "nn/train/interrupt.h"

namespace moxie::train_lm {
namespace {

std::string how_to_go_on(const std::string& program, const Files& files) {
  return fmt::format("{} --resume --out {}", program, files.folder);
}

// A run is never overwritten.
void claim(const Files& files, const std::string& program) {
  for (const char* name : {"checkpoint.safetensors", "metrics.csv", "config.json"}) {
    if (!std::filesystem::exists(files.path(name))) continue;
    const std::string cure = std::filesystem::exists(files.checkpoint())
                                 ? "go on with it by " + how_to_go_on(program, files)
                                 : "it has no checkpoint yet: delete the folder";
    throw_invalid_argument(
        fmt::format("'{}' already holds a run ({}); {}, or choose another --out", files.folder, name, cure));
  }
  std::error_code error;
  std::filesystem::create_directories(files.folder, error);
  check(!error, "can't make the folder '{}': {}", files.folder, error.message());
}

int stopped(const Run& run, const std::string& program, const Files& files) {
  const int64_t steps = run.configuration.steps;
  fmt::print("\nstopped after step {}{}. ", run.step, steps > 0 ? fmt::format(" of {}", steps) : "");
  if (run.step > 0)
    fmt::print("Saved {}. Go on with\n  {}\n", files.checkpoint(), how_to_go_on(program, files));
  else
    fmt::print("There was nothing to save.\n");
  return train::interrupted() ? 128 + train::interrupt_signal() : 0;
}

int train_and_report(Run& run, const Command& command, const Files& files, const std::string& program,
                     Clock::time_point start, bool is_new) {
  const train::InterruptGuard guard;
  std::optional<AnomalyMode> anomaly_mode;
  if (command.anomaly) {
    nn::name_parameters(run.model);
    anomaly_mode.emplace();
  }
  std::optional<OpRanges> ranges;
  if (command.nvtx) ranges.emplace(nvtx());
  if (command.profile > 0) {
    profile(run, files, command.profile);
    return 0;
  }
  if (command.cuda_graph) run.use_graph();
  train(run, files, command, start, is_new);
  const bool complete = run.configuration.steps > 0 && run.step == run.configuration.steps;
  if (!complete || !report(run, files)) return stopped(run, program, files);
  return 0;
}

int execute(const Command& command, const std::string& program, Clock::time_point start) {
  if (command.mode == Mode::print_config) {
    validate(command.configuration);
    fmt::print("{}\n", to_json(command.configuration));
    return 0;
  }
  if (command.threads > 0) set_threads(command.threads);
  const Files files{command.out};
  if (command.mode == Mode::dry_run) {  // needs no GPU
    fmt::print("{}", describe_plan(Run(command.configuration)));
    return 0;
  }
  const Device device = train::device_from_name(command.device);
  check(!command.nvtx || device.is_cuda(), "--nvtx is for profilers of a GPU: --device cuda; this run is on {}",
        device.name());
  check(!command.cuda_graph || device.is_cuda(), "--cuda-graph needs a GPU: --device cuda; this run is on {}",
        device.name());
  check(!command.cuda_graph || (command.profile == 0 && !command.anomaly),
        "--cuda-graph repeats steps as a whole, --profile and --anomaly look at every op: take one of them");
  if (command.mode == Mode::train) {
    Configuration configuration = command.configuration;
    if (!configuration.data.empty())
      configuration.data = std::filesystem::absolute(configuration.data).lexically_normal().string();
    Run run(configuration, device);
    claim(files, program);
    fmt::print("{}\n", describe(run));
    std::fflush(stdout);
    save_configuration(run, files);
    return train_and_report(run, command, files, program, start, true);
  }
  Run run(load_run_checkpoint(files), command.data, device);
  fmt::print("{}", describe(run));
  if (command.mode == Mode::evaluate) {
    const auto result = evaluate(run, final_batches(run.configuration));
    fmt::print("\nstep {}: validation loss {}\n", run.step, words_of(*result, run.configuration));
    return 0;
  }
  fmt::print("{:<11}{}, step {} of {}\n\n", "resumed", files.checkpoint(), run.step, run.configuration.steps);
  std::fflush(stdout);
  return train_and_report(run, command, files, program, start, false);
}

}  // namespace
}  // namespace moxie::train_lm

int main(int argc, char** argv) try {
  using namespace moxie::train_lm;
  const Clock::time_point start = Clock::now();
  const auto parsed = parse_command_line(argc, argv);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  return execute(std::get<Command>(parsed), argc > 0 ? argv[0] : "train_lm", start);
} catch (const std::bad_alloc&) {
  std::fputs("error: out of memory; try a smaller --batch, --micro-batches or --recompute\n", stderr);
  return 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
