// SPDX-License-Identifier: Apache-2.0
// Metrics on cases worked out by hand.
#include "moe/metrics.h"

#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

DEVICE_TEST_CASE("load metrics by hand") {
  const LoadMetrics even = load_metrics(std::vector<int64_t>{5, 5, 5, 5});
  CHECK(even.max_over_mean == 1);
  CHECK(even.dead == 0);
  CHECK(even.routing_entropy == doctest::Approx(std::log(4.0)));
  const LoadMetrics uneven = load_metrics(std::vector<int64_t>{6, 0, 2, 0});
  CHECK(uneven.load == std::vector<int64_t>{6, 0, 2, 0});
  CHECK(uneven.max_over_mean == 3);
  CHECK(uneven.dead == 2);
  CHECK(uneven.routing_entropy == doctest::Approx(-0.75 * std::log(0.75) - 0.25 * std::log(0.25)));
  const LoadMetrics one = load_metrics(std::vector<int64_t>{0, 9});
  CHECK(one.max_over_mean == 2);
  CHECK(one.routing_entropy == 0);
  const LoadMetrics none = load_metrics(std::vector<int64_t>{0, 0, 0});
  CHECK(none.max_over_mean == 0);
  CHECK(none.dead == 3);
  CHECK(none.routing_entropy == 0);
}

DEVICE_TEST_CASE("load metrics of a routing count its assignments") {
  const Tensor scores(Array::from(Numbers{3, 2, 1, 3, 1, 2, 3, 2, 1}, {3, 3}, current_device()));
  const LoadMetrics metrics = load_metrics(route(scores, {}, 2, Weighting::after_top_k));
  CHECK(metrics.load == std::vector<int64_t>{3, 2, 1});
  CHECK(metrics.max_over_mean == doctest::Approx(1.5));
}

DEVICE_TEST_CASE("coupling metrics by hand") {
  nn::Initializer init(1, current_device());
  MoeLayer layer(2, {.router = {.experts = 2, .top_k = 1}, .hidden = 1}, init);
  layer.router.weight.set_value(Array::from(Numbers{1, 0, 0, 1}, {2, 2}, current_device()));
  // Rows: gate, up, gate, up. M = [[3, 1], [2, 4]] whatever the up rows are.
  layer.experts.gate_up.set_value(Array::from(Numbers{3, 2, 70, 80, 1, 4, 90, 60}, {2, 2, 2}, current_device()));
  const CouplingMetrics at_one = coupling_metrics(layer, 1), at_half = coupling_metrics(layer, 0.5);
  CHECK(at_one.matrix == Numbers{3, 1, 2, 4});
  CHECK(at_one.violations == 0);
  CHECK(at_half.violations == 1);
  CHECK(at_one.log_diagonal == doctest::Approx((std::log(3.0) + std::log(4.0)) / 2));
  CHECK(at_one.log_off_diagonal == doctest::Approx((std::log(1.0) + std::log(2.0)) / 2));
  for (const double epsilon : at_one.epsilon) CHECK(epsilon == doctest::Approx(std::sqrt(2.0) / 2));
}

DEVICE_TEST_CASE("coupling metrics of one expert") {
  nn::Initializer init(1, current_device());
  const CouplingMetrics metrics =
      coupling_metrics(MoeLayer(4, {.router = {.experts = 1, .top_k = 1}, .hidden = 3}, init), 1);
  CHECK(metrics.violations == 0);
  CHECK(metrics.log_off_diagonal == 0);
  CHECK(metrics.epsilon == Numbers{0});
  CHECK(metrics.matrix.size() == 1);
}

}  // namespace
}  // namespace moxie::moe
