// SPDX-License-Identifier: Apache-2.0
// What each layer's experts do, as numbers.
#pragma once
#include <vector>

#include "moe/layer.h"

namespace moxie::moe {

struct LoadMetrics {
  std::vector<int64_t> load;   // assignments per expert
  double max_over_mean = 0;    // 1: perfectly balanced; 0 without tokens
  int64_t dead = 0;            // experts without an assignment
  double routing_entropy = 0;  // of the load's distribution in nats; log(experts) at balance
};
LoadMetrics load_metrics(const Routing& routing);
// The same of loads counted elsewhere, for example over several batches.
LoadMetrics load_metrics(const std::vector<int64_t>& load);

struct CouplingMetrics {
  std::vector<double> epsilon;                    // the noise bound of each expert: how far apart the router's rows are
  std::vector<double> matrix;                     // M without noise, row-major [experts, experts]
  int64_t violations = 0;                         // of the 2 n (n - 1) ERC constraints at the given alpha
  double log_diagonal = 0, log_off_diagonal = 0;  // means of log M: the loss can also fall by shrinking M as a whole
};
CouplingMetrics coupling_metrics(const MoeLayer& layer, double alpha);

}  // namespace moxie::moe
