// SPDX-License-Identifier: Apache-2.0
// Where the time of a program goes, op by op.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "core/device.h"

namespace moxie {

namespace cuda {
struct Event;
}

// While an instance lives, every op on this thread is timed, forward and backward, and what else is marked. An op's
// time runs from the end of the one before to its own end: what lies between two ops counts for the later one. On the
// CPU it is wall-clock time. On a GPU it is the device's, by events between the ops, beside the time that the program
// needed to ask for them; an op's time there holds the gaps in which the device had nothing to do.
class Profiler final {
 public:
  explicit Profiler(Device device = Device::cpu());
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  struct Row {
    std::string name;  // "linear", "linear, backward", "optimizer"
    int64_t calls = 0;
    double milliseconds = 0;       // on the device
    double host_milliseconds = 0;  // on the CPU
  };
  // What was timed so far, the longest first; waits for the device.
  std::vector<Row> rows() const;
  // The rows as a table with shares, with the sum below it.
  std::string table() const;
  // All calls in the trace format of Chrome, which ui.perfetto.dev opens: the first `most` of them.
  std::string trace(size_t most = 200000) const;

  // Ends an op, or the part of a program that `name` says. Does nothing where no profiler lives on this thread.
  enum class Phase { forward, backward, other };
  static void mark(const char* name, Phase phase = Phase::other) {
    if (active_ != nullptr) [[unlikely]]
      active_->add(name, phase);
  }

 private:
  struct Mark {
    const char* name;  // as long-lived as an op's
    Phase phase;
    std::chrono::steady_clock::time_point host;
    cuda::Event* device;
  };
  struct Span {
    const Mark* mark;
    double begin, end, host_begin, host_end;  // milliseconds from the beginning
  };
  void add(const char* name, Phase phase);
  std::vector<Span> spans() const;

  static inline constinit thread_local Profiler* active_ = nullptr;
  Device device_;
  Profiler* before_;
  std::vector<Mark> marks_;
};

}  // namespace moxie
