// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedules: functions of the step.
#pragma once
#include <cstdint>
#include <string_view>

namespace moxie::nn {

// What the learning rate does after the warm-up. wsd (warm-up, stable, decay) stays at the peak and falls at the end
// only, so that a run can be prolonged from any point before that: in a line, or as 1 - sqrt (Hägele et al. 2024,
// arXiv 2405.18392). one_cycle (Smith & Topin 2019, arXiv 1708.07120, as PyTorch's OneCycleLR) rises from
// `initial_share` and falls again, both along a half cosine.
enum class Decay { cosine, linear, constant, wsd_linear, wsd_sqrt, one_cycle };
const char* name_of(Decay decay);
// Throws std::invalid_argument for a name other than cosine, linear, constant, wsd_linear, wsd_sqrt, one_cycle.
Decay decay_from_name(std::string_view name);

// Rises linearly to `peak` over the first `warmup` steps, then falls to `peak * final_share` at the last of `steps`.
struct Schedule {
  double peak = 1e-3;
  int64_t steps = 1000;
  int64_t warmup = 0;
  Decay decay = Decay::cosine;
  double final_share = 0.1;
  double decay_share = 0.2;     // wsd: share of the steps, at the end, in which the rate falls
  double initial_share = 0.04;  // one_cycle: share of the peak at which the first step begins

  // The learning rate of step 0, 1, ..; steps beyond the last keep its value. Throws for impossible settings.
  double at(int64_t step) const;
};

}  // namespace moxie::nn
