// SPDX-License-Identifier: Apache-2.0
// Sorting assignments by expert, dispatch and combine.
#include "moe/routing.h"

#include "core/storage.h"
#include "moe/router.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

struct Poison {
  Poison() { poison_new_memory(true); }
  ~Poison() { poison_new_memory(false); }
};

Routing random_routing(int64_t tokens, int64_t experts, int64_t top_k, uint64_t seed = 1) {
  return route(Tensor(random({tokens, experts}, seed)), {}, top_k, Weighting::after_top_k);
}

// A routing of top 1 that sends token t to expert chosen[t].
Routing routing_to(const std::vector<int32_t>& chosen, int64_t experts) {
  const auto tokens = static_cast<int64_t>(chosen.size());
  return make_routing(Tensor::zeros({tokens, experts}, {Dtype::f64, current_device()}),
                      Tensor::full({tokens, 1}, 1.0, {Dtype::f64, current_device()}), integers(chosen, {tokens, 1}),
                      experts);
}

DEVICE_TEST_CASE("assignments are sorted by expert, tokens in order, and slots lead back") {
  for (const auto& [tokens, experts, top_k] :
       {std::tuple<int64_t, int64_t, int64_t>(0, 3, 2), {1, 1, 1}, {9, 4, 1}, {33, 8, 3}, {5, 6, 6}, {700, 64, 8}}) {
    INFO(tokens, " ", experts, " ", top_k);
    const Poison poison;
    const Routing routing = random_routing(tokens, experts, top_k);
    const std::vector<int32_t> offsets = routing.offsets.to_vector<int32_t>(),
                               chosen = routing.chosen.to_vector<int32_t>();
    const std::vector<int32_t> token = routing.token_of_slot.to_vector<int32_t>();
    const std::vector<int32_t> slot = routing.slot_of_assignment.to_vector<int32_t>();
    REQUIRE(offsets.size() == static_cast<size_t>(experts + 1));
    CHECK(offsets.front() == 0);
    CHECK(offsets.back() == tokens * top_k);
    std::vector<int> seen(token.size());
    for (size_t a = 0; a < chosen.size(); ++a) {
      const auto place = static_cast<size_t>(slot[a]), expert = static_cast<size_t>(chosen[a]);
      ++seen[place];
      CHECK(token[place] == static_cast<int32_t>(a) / top_k);
      CHECK((slot[a] >= offsets[expert] && slot[a] < offsets[expert + 1]));
    }
    for (const int count : seen) CHECK(count == 1);
    for (size_t e = 0; e < static_cast<size_t>(experts); ++e) {
      CHECK(routing.load()[e] == std::count(chosen.begin(), chosen.end(), static_cast<int32_t>(e)));
      for (int32_t place = offsets[e]; place + 1 < offsets[e + 1]; ++place)
        CHECK(token[static_cast<size_t>(place)] < token[static_cast<size_t>(place) + 1]);
    }
  }
}

DEVICE_TEST_CASE("experts with none, one and all of the tokens") {
  CHECK(routing_to({2, 2, 0, 2}, 4).load() == std::vector<int64_t>{1, 0, 3, 0});
  CHECK(routing_to({3, 3, 3, 3, 3}, 4).load() == std::vector<int64_t>{0, 0, 0, 5});
  CHECK(routing_to({}, 3).load() == std::vector<int64_t>{0, 0, 0});
  CHECK(routing_to({1, 1, 0}, 2).token_of_slot.to_vector<int32_t>() == std::vector<int32_t>{2, 0, 1});
}

DEVICE_TEST_CASE("combine(dispatch(x)) = x for top 1 and weight 1, and so for the gradient") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
    for (const auto& chosen : {std::vector<int32_t>{1, 0, 2, 1, 1, 3}, {0, 0, 0, 0, 0, 0}, {3, 3, 3, 0, 3, 3}}) {
      const Poison poison;
      const Routing routing = routing_to(chosen, 4);
      const Array value = random({6, 5}, 1, 1, dtype), dy = random({6, 5}, 2, 1, dtype);
      const Tensor x = leaf(value), y = combine(dispatch(x, routing), routing);
      CHECK(same_bits(y.value(), value));
      y.backward(dy);
      CHECK(same_bits(x.grad(), dy));
    }
  // Equal weights that sum to 1 do the same for any top k.
  const Routing base = random_routing(9, 8, 4);
  const Routing even =
      make_routing(base.scores, Tensor::full({9, 4}, 0.25, {Dtype::f64, current_device()}), base.chosen, 8);
  const Tensor x(random({9, 5}, 1));
  CHECK(same_bits(combine(dispatch(x, even), even).value(), x.value()));
}

DEVICE_TEST_CASE("dispatch and combine equal plain loops, and their gradients differences, for every top k") {
  for (int64_t top_k = 1; top_k <= 10; ++top_k) {
    if (small_only() && top_k > 2 && top_k < 10) continue;
    INFO(top_k);
    const int64_t tokens = 5, cols = 3;
    const Routing routing = random_routing(tokens, 10, top_k);
    const Array x = random({tokens, cols}, 2), rows = random({tokens * top_k, cols}, 3),
                weights = random({tokens, top_k}, 4);
    const std::vector<int32_t> slot = routing.slot_of_assignment.to_vector<int32_t>(),
                               token = routing.token_of_slot.to_vector<int32_t>();
    const Numbers in = x.to_vector<double>(), r = rows.to_vector<double>(), w = weights.to_vector<double>();
    Numbers sent, gathered(static_cast<size_t>(tokens * cols));
    for (const int32_t t : token)
      for (int64_t i = 0; i < cols; ++i) sent.push_back(in[static_cast<size_t>(t * cols + i)]);
    for (size_t a = 0; a < slot.size(); ++a)
      for (size_t i = 0; i < 3; ++i)
        gathered[a / static_cast<size_t>(top_k) * 3 + i] += w[a] * r[static_cast<size_t>(slot[a]) * 3 + i];
    const auto combined = [&](std::span<const Tensor> t) {
      Routing with = routing;
      with.weights = t[1];
      return combine(t[0], with);
    };
    const std::vector<Tensor> inputs{leaf(rows), leaf(weights)};
    CHECK(dispatch(Tensor(x), routing).to_vector<double>() == sent);
    CHECK(difference(combined(inputs).value(), Array::from(gathered, {tokens, cols}, current_device())) < 1e-14);
    check_gradients([&](std::span<const Tensor> t) { return dispatch(t[0], routing); }, {leaf(x)});
    check_gradients(combined, inputs);
    // bf16: added up in f32 and rounded once.
    const Tensor narrow = combined(std::vector<Tensor>{Tensor(rows.to(Dtype::bf16)), Tensor(weights.to(Dtype::f32))});
    const Tensor wide =
        combined(std::vector<Tensor>{Tensor(rows.to(Dtype::bf16).to(Dtype::f32)), Tensor(weights.to(Dtype::f32))});
    CHECK(same_bits(narrow.value(), wide.value().to(Dtype::bf16)));
    const Tensor from_bf16 = leaf(x.to(Dtype::bf16)), from_f32 = leaf(x.to(Dtype::bf16).to(Dtype::f32));
    dispatch(from_bf16, routing).backward(rows.to(Dtype::bf16));
    dispatch(from_f32, routing).backward(rows.to(Dtype::bf16).to(Dtype::f32));
    CHECK(same_bits(from_bf16.grad(), from_f32.grad().to(Dtype::bf16)));
  }
}

DEVICE_TEST_CASE("dispatch and combine of wide rows in f32 and bf16 are near f64, and so are their gradients") {
  const int64_t tokens = 37, cols = 264;
  for (int64_t top_k = 1; top_k <= 8; ++top_k) {
    const Routing routing = random_routing(tokens, 9, top_k);
    const Array x = random({tokens, cols}, 2), rows = random({tokens * top_k, cols}, 3);
    // y, dx, and the gradients of the rows and of the weights
    const auto run = [&](Dtype dtype) {
      const Tensor tokens_in = leaf(x.to(dtype)), rows_in = leaf(rows.to(dtype));
      const Tensor weights = leaf(routing.weights.value().to(statistics_dtype(dtype)));
      Routing with = routing;
      with.weights = weights;
      const Tensor y = combine(dispatch(tokens_in, routing) + rows_in, with);
      y.backward(x.to(dtype));
      return std::array{y.value(), tokens_in.grad(), rows_in.grad(), weights.grad()};
    };
    const auto exact = run(Dtype::f64);
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      INFO(top_k, " ", name_of(dtype));
      const auto made = run(dtype);
      for (size_t i = 0; i < made.size(); ++i)
        CHECK(difference(made[i], exact[i]) < (dtype == Dtype::f32 ? 1e-5 : 2e-2));
    }
  }
}

DEVICE_TEST_CASE("one gradient of combine alone is the same as both") {
  const Routing routing = random_routing(20, 6, 3);
  const Array rows = random({60, 7}, 1), weights = random({20, 3}, 2), dy = random({20, 7}, 3);
  const auto run = [&](const Tensor& r, const Tensor& w) {
    Routing with = routing;
    with.weights = w;
    combine(r, with).backward(dy);
  };
  const Poison poison;
  const Tensor r = leaf(rows), w = leaf(weights), only_r = leaf(rows), only_w = leaf(weights);
  run(r, w), run(only_r, Tensor(weights)), run(Tensor(rows), only_w);
  CHECK(same_bits(r.grad(), only_r.grad()));
  CHECK(same_bits(w.grad(), only_w.grad()));
}

DEVICE_TEST_CASE("an empty batch goes forward and backward") {
  const Routing routing = random_routing(0, 4, 2);
  const Tensor x = leaf(random({0, 5}, 1)), weights = leaf(random({0, 2}, 2));
  Routing with = routing;
  with.weights = weights;
  const Tensor y = combine(dispatch(x, routing), with);
  CHECK(y.shape() == Shape({0, 5}));
  y.backward(random({0, 5}, 3));
  CHECK(x.grad().shape() == Shape({0, 5}));
  CHECK(weights.grad().shape() == Shape({0, 2}));
}

DEVICE_TEST_CASE("dispatch and combine give the same bits for one, two and three threads") {
  const Routing routing = random_routing(600, 16, 3);
  const Array value = random({600, 65}, 1, 1, Dtype::f32), dy = random({600, 65}, 2, 1, Dtype::f32);
  const int before = threads();
  std::vector<Array> results;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    const Tensor x = leaf(value), weights = leaf(routing.weights.value().to(Dtype::f32));
    Routing with = routing;
    with.weights = weights;
    const Tensor y = combine(dispatch(x, with), with);
    y.backward(dy);
    for (const Array& array : {y.value(), x.grad(), weights.grad()}) results.push_back(array);
  }
  set_threads(before);
  for (size_t i = 3; i < results.size(); ++i) CHECK(same_bits(results[i], results[i % 3]));
}

}  // namespace
}  // namespace moxie::moe
