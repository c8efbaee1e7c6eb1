// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedules: functions of the step.
#pragma once
#include <cstdint>
#include <string_view>

namespace moxie::nn {

enum class Decay { cosine, linear, constant };
const char* name_of(Decay decay);
// Throws std::invalid_argument for a name other than cosine, linear, constant.
Decay decay_from_name(std::string_view name);

// Rises linearly to `peak` over the first `warmup` steps, then falls to `peak * final_share` at the last of `steps`.
struct Schedule {
  double peak = 1e-3;
  int64_t steps = 1000;
  int64_t warmup = 0;
  Decay decay = Decay::cosine;
  double final_share = 0.1;

  // The learning rate of step 0, 1, ..; steps beyond the last keep its value. Throws for impossible settings.
  double at(int64_t step) const;
};

}  // namespace moxie::nn
