// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/rows.h"
#include "core/philox.h"

namespace moxie {

// y = scale v, where v is drawn by each_normal or, stretched to (-1, 1), by each_uniform
enum class Distribution { normal, uniform };
template <Distribution D> struct Fill {
  float* y;
  int64_t numel;
  float scale;
  RandomKey key;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t first = row * elementwise_row, n = elementwise_count(numel, row);
    float* out = y + first;
    const float factor = scale;
    if constexpr (D == Distribution::normal)
      each_normal(team, key.resolved(), static_cast<uint64_t>(first), n,
                  [=](int64_t i, float z) { out[i] = factor * z; });
    else
      each_uniform(team, key.resolved(), static_cast<uint64_t>(first), n,
                   [=](int64_t i, float u) { out[i] = factor * (2 * u - 1); });
  }
};
using FillNormal = Fill<Distribution::normal>;
using FillUniform = Fill<Distribution::uniform>;

// y = scale z with z standard normal, drawn again (under the next step of the key) while |z| > cut
struct FillTruncatedNormal {
  float* y;
  int64_t numel;
  float scale, cut;
  RandomKey key;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t first = row * elementwise_row;
    float* out = y + first;
    const float factor = scale, limit = cut;
    const RandomKey base = key.resolved();
    team.each(elementwise_count(numel, row), [=](int64_t i) {
      RandomKey attempt = base;
      float z = normal_at(attempt, static_cast<uint64_t>(first + i));
      while (z > limit || z < -limit) {
        ++attempt.step;
        z = normal_at(attempt, static_cast<uint64_t>(first + i));
      }
      out[i] = factor * z;
    });
  }
};

}  // namespace moxie
