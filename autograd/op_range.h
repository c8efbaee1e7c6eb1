// SPDX-License-Identifier: Apache-2.0
// Names of ops in the timeline of a profiler, such as NVIDIA's Nsight Systems, which reads NVTX ranges.
#pragma once
#include <string>

namespace moxie {

// What is told where ranges begin and end. They are nested, and end in the opposite order.
struct RangeListener {
  virtual ~RangeListener() = default;
  virtual void begin(const std::string& name) = 0;
  virtual void end() = 0;
};
// One that tells NVTX. Throws std::invalid_argument where moxie was built without CUDA.
RangeListener& nvtx();

// While an instance lives, ops on this thread are ranges: "linear", and "linear, backward" for its gradients. Nothing
// is measured or waited for here; without a profiler attached a range costs some nanoseconds.
class OpRanges final {
 public:
  explicit OpRanges(RangeListener& listener) : before_(active()) { active() = &listener; }
  ~OpRanges() { active() = before_; }
  OpRanges(const OpRanges&) = delete;
  OpRanges& operator=(const OpRanges&) = delete;

 private:
  friend class OpRange;
  static RangeListener*& active() {
    static constinit thread_local RangeListener* listener = nullptr;
    return listener;
  }
  RangeListener* before_;
};

// The range of one op, from here to the end of the scope.
class OpRange final {
 public:
  explicit OpRange(const char* op, bool backward = false) : listener_(OpRanges::active()) {
    if (listener_ != nullptr) [[unlikely]]
      listener_->begin(backward ? std::string(op).append(", backward") : std::string(op));
  }
  ~OpRange() {
    if (listener_ != nullptr) [[unlikely]]
      listener_->end();
  }
  OpRange(const OpRange&) = delete;
  OpRange& operator=(const OpRange&) = delete;

 private:
  RangeListener* listener_;
};

}  // namespace moxie
