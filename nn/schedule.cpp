// SPDX-License-Identifier: Apache-2.0
#include "nn/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/check.h"

namespace moxie::nn {

const char* name_of(Decay decay) {
  switch (decay) {
    case Decay::cosine: return "cosine";
    case Decay::linear: return "linear";
    case Decay::constant: return "constant";
  }
  return "?";
}

Decay decay_from_name(std::string_view name) {
  for (const Decay decay : {Decay::cosine, Decay::linear, Decay::constant})
    if (name == name_of(decay)) return decay;
  throw_invalid_argument(fmt::format("schedule: decay must be cosine, linear or constant, got '{}'", name));
}

double Schedule::at(int64_t step) const {
  check(steps >= 1 && warmup >= 0 && final_share >= 0,
        "Schedule: steps must be positive, warmup and final_share not negative, got {}, {}, {}", steps, warmup,
        final_share);
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (decay == Decay::constant) return peak;
  const auto span = static_cast<double>(std::max<int64_t>(steps - 1 - warmup, 1));
  const double progress = std::min(static_cast<double>(step - warmup) / span, 1.0);
  const double left = decay == Decay::cosine ? 0.5 * (1 + std::cos(std::numbers::pi * progress)) : 1 - progress;
  return peak * (final_share + (1 - final_share) * left);
}

}  // namespace moxie::nn
