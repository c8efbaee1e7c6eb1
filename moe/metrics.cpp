// SPDX-License-Identifier: Apache-2.0
#include "moe/metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moxie::moe {

LoadMetrics load_metrics(const Routing& routing) { return load_metrics(routing.load()); }

LoadMetrics load_metrics(const std::vector<int64_t>& load) {
  LoadMetrics metrics{.load = load};
  const auto total = static_cast<double>(std::accumulate(load.begin(), load.end(), int64_t{0}));
  metrics.dead = std::count(load.begin(), load.end(), 0);
  if (total == 0) return metrics;
  metrics.max_over_mean =
      static_cast<double>(*std::max_element(load.begin(), load.end())) * static_cast<double>(load.size()) / total;
  for (const int64_t count : load) {
    const double share = static_cast<double>(count) / total;
    if (share > 0) metrics.routing_entropy -= share * std::log(share);
  }
  return metrics;
}

CouplingMetrics coupling_metrics(const MoeLayer& layer, double alpha) {
  const Array matrix = layer.coupling();
  CouplingMetrics metrics{.epsilon = erc_bound(layer.router.weight.value()).to_vector<double>(),
                          .matrix = matrix.to_vector<double>(),
                          .violations = erc_violations(matrix, alpha)};
  const auto n = static_cast<size_t>(matrix.shape()[0]);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j)
      (i == j ? metrics.log_diagonal : metrics.log_off_diagonal) += std::log(metrics.matrix[i * n + j]);
  metrics.log_diagonal /= static_cast<double>(n);
  if (n > 1) metrics.log_off_diagonal /= static_cast<double>(n * (n - 1));
  return metrics;
}

}  // namespace moxie::moe
