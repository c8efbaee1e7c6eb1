// SPDX-License-Identifier: Apache-2.0
#include "nn/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/check.h"

namespace moxie::nn {
namespace {

constexpr Decay decays[] = {Decay::cosine,     Decay::linear,   Decay::constant,
                            Decay::wsd_linear, Decay::wsd_sqrt, Decay::one_cycle};

// From 1 at progress 0 to 0 at progress 1, along a half cosine.
double half_cosine(double progress) { return 0.5 * (1 + std::cos(std::numbers::pi * progress)); }

// How far `step` is on the way from `first` to `last`, in [0, 1].
double progress_between(int64_t step, int64_t first, int64_t last) {
  const auto span = static_cast<double>(std::max<int64_t>(last - first, 1));
  return std::clamp(static_cast<double>(step - first) / span, 0.0, 1.0);
}

}  // namespace

const char* name_of(Decay decay) {
  switch (decay) {
    case Decay::cosine: return "cosine";
    case Decay::linear: return "linear";
    case Decay::constant: return "constant";
    case Decay::wsd_linear: return "wsd_linear";
    case Decay::wsd_sqrt: return "wsd_sqrt";
    case Decay::one_cycle: return "one_cycle";
  }
  return "?";
}

Decay decay_from_name(std::string_view name) {
  for (const Decay decay : decays)
    if (name == name_of(decay)) return decay;
  throw_invalid_argument(fmt::format(
      "schedule: decay must be cosine, linear, constant, wsd_linear, wsd_sqrt or one_cycle, got '{}'", name));
}

double Schedule::at(int64_t step) const {
  check(steps >= 1 && warmup >= 0 && final_share >= 0,
        "Schedule: steps must be positive, warmup and final_share not negative, got {}, {}, {}", steps, warmup,
        final_share);
  check(decay_share >= 0 && decay_share <= 1 && initial_share >= 0,
        "Schedule: decay_share must be in [0, 1] and initial_share not negative, got {} and {}", decay_share,
        initial_share);
  const auto falling = [&](double left) { return peak * (final_share + (1 - final_share) * left); };
  if (decay == Decay::one_cycle) {
    if (step < warmup - 1) return peak * (1 - (1 - initial_share) * half_cosine(progress_between(step, 0, warmup - 1)));
    return falling(half_cosine(progress_between(step, std::max<int64_t>(warmup - 1, 0), steps - 1)));
  }
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (decay == Decay::constant) return peak;
  if (decay == Decay::cosine) return falling(half_cosine(progress_between(step, warmup, steps - 1)));
  if (decay == Decay::linear) return falling(1 - progress_between(step, warmup, steps - 1));
  // The last `length` steps fall, the last of them to the final share.
  const auto length = std::llround(decay_share * static_cast<double>(steps));
  if (length == 0) return peak;
  const double progress = progress_between(step, steps - 1 - length, steps - 1);
  return falling(1 - (decay == Decay::wsd_sqrt ? std::sqrt(progress) : progress));
}

}  // namespace moxie::nn
