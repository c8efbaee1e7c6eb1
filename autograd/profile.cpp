// SPDX-License-Identifier: Apache-2.0
#include "autograd/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/cuda.h"

namespace moxie {
namespace {

std::string name_of(const char* name, Profiler::Phase phase) {
  return phase == Profiler::Phase::backward ? fmt::format("{}, backward", name) : name;
}

}  // namespace

Profiler::Profiler(Device device) : device_(device), before_(active_) {
  add("", Phase::other);
  active_ = this;
}

Profiler::~Profiler() {
  active_ = before_;
#ifdef MOXIE_CUDA
  for (const Mark& mark : marks_)
    if (mark.device != nullptr) cuda::destroy(mark.device);
#endif
}

void Profiler::add(const char* name, Phase phase) {
  Mark mark{name, phase, std::chrono::steady_clock::now(), nullptr};
#ifdef MOXIE_CUDA
  if (device_.is_cuda()) mark.device = cuda::record_event(device_.index);
#endif
  marks_.push_back(mark);
}

std::vector<Profiler::Span> Profiler::spans() const {
#ifdef MOXIE_CUDA
  if (device_.is_cuda()) cuda::synchronize(device_.index);
#endif
  std::vector<Span> all;
  double last = 0, host_last = 0;
  for (size_t i = 1; i < marks_.size(); ++i) {
    const Mark& mark = marks_[i];
    const double host = std::chrono::duration<double, std::milli>(mark.host - marks_[0].host).count();
    double end = host;
#ifdef MOXIE_CUDA
    if (mark.device != nullptr) end = last + cuda::milliseconds_between(marks_[i - 1].device, mark.device);
#endif
    all.push_back({&mark, last, end, host_last, host});
    last = end;
    host_last = host;
  }
  return all;
}

std::vector<Profiler::Row> Profiler::rows() const {
  std::map<std::string, Row> by_name;
  for (const Span& span : spans()) {
    const std::string name = name_of(span.mark->name, span.mark->phase);
    Row& row = by_name[name];
    row.name = name;
    ++row.calls;
    row.milliseconds += span.end - span.begin;
    row.host_milliseconds += span.host_end - span.host_begin;
  }
  std::vector<Row> all;
  for (auto& [name, row] : by_name) all.push_back(std::move(row));
  std::stable_sort(all.begin(), all.end(), [](const Row& a, const Row& b) { return a.milliseconds > b.milliseconds; });
  return all;
}

std::string Profiler::table() const {
  const std::vector<Row> all = rows();
  Row sum{.name = "all"};
  for (const Row& row : all) {
    sum.calls += row.calls;
    sum.milliseconds += row.milliseconds;
    sum.host_milliseconds += row.host_milliseconds;
  }
  const bool on_gpu = device_.is_cuda();
  std::string text =
      fmt::format("{:<34}{:>8}{:>12}{:>8}{}\n", "op", "calls", "ms", "share", on_gpu ? "     host ms" : "");
  const auto line = [&](const Row& row) {
    const double share = sum.milliseconds > 0 ? 100 * row.milliseconds / sum.milliseconds : 0;
    text += fmt::format("{:<34}{:>8}{:>12.3f}{:>7.1f}%", row.name, row.calls, row.milliseconds, share);
    text += on_gpu ? fmt::format("{:>12.3f}\n", row.host_milliseconds) : "\n";
  };
  for (const Row& row : all) line(row);
  line(sum);
  return text;
}

std::string Profiler::trace(size_t most) const {
  std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  const auto thread = [&](int id, const std::string& name) {
    text += fmt::format(
        "{{\"ph\": \"M\", \"pid\": 1, \"tid\": {}, \"name\": \"thread_name\", \"args\": {{\"name\": \"{}\"}}}}", id,
        name);
  };
  const auto event = [&](int id, const std::string& name, double begin, double end) {
    text +=
        fmt::format(",\n{{\"ph\": \"X\", \"pid\": 1, \"tid\": {}, \"name\": \"{}\", \"ts\": {:.3f}, \"dur\": {:.3f}}}",
                    id, name, 1000 * begin, 1000 * (end - begin));
  };
  thread(1, "cpu");
  if (device_.is_cuda()) {
    text += ",\n";
    thread(2, device_.name());
  }
  size_t count = 0;
  for (const Span& span : spans()) {
    if (count++ == most) break;
    const std::string name = name_of(span.mark->name, span.mark->phase);
    event(1, name, span.host_begin, span.host_end);
    if (device_.is_cuda()) event(2, name, span.begin, span.end);
  }
  return text + "\n]}\n";
}

}  // namespace moxie
