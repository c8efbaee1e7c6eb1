// SPDX-License-Identifier: Apache-2.0
#include "moe/experts.h"

#include <cmath>

namespace moxie::moe {

Experts::Experts(int64_t experts, int64_t width, int64_t hidden_units, Activation kind, nn::Initializer& init,
                 double output_gain)
    : activation(kind), hidden(hidden_units) {
  check(experts >= 1 && width >= 1 && hidden >= 1,
        "Experts: experts, width and hidden must be positive, got {}, {}, {}", experts, width, hidden);
  gate_up = nn::Parameter(
      init.normal({experts, projection_width(kind, hidden), width}, 1 / std::sqrt(static_cast<double>(width))),
      {.stacked = nn::stacked_rows(kind, hidden)});
  down = nn::Parameter(init.normal({experts, width, hidden}, output_gain / std::sqrt(static_cast<double>(hidden))));
}

Tensor Experts::operator()(const Tensor& rows, const Routing& routing, const nn::Context& context) const {
  const Tensor projected = grouped_matmul(rows, gate_up.as(context.dtype), routing.offsets);
  return grouped_matmul(activate(projected, activation), down.as(context.dtype), routing.offsets);
}

}  // namespace moxie::moe
