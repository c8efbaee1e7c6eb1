// SPDX-License-Identifier: Apache-2.0
// The ERC loss against the paper's pseudocode in PyTorch, against plain loops, and against differences.
#include "moe/erc.h"

#include <array>

#include "core/storage.h"
#include "moe/layer.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

struct Result {
  double loss;
  Array drouter, dgate;
};

Result run(const Array& router, const Array& gate, int64_t hidden, const Array& delta, double alpha,
           const ErcProducts& how = {}) {
  const Tensor r = leaf(router), w = leaf(gate);
  const Tensor loss = erc_loss(r, w, hidden, delta, alpha, how);
  loss.backward();
  return {loss.item(), r.grad(), w.grad()};
}

// gate [n, hidden, width] as the first rows of [n, rows, width]; the others hold numbers that must not matter.
Array with_other_rows(const Array& gate, int64_t rows, double filling) {
  const int64_t n = gate.dim(0), hidden = gate.dim(1), width = gate.dim(2);
  const Array whole = Array::full({n, rows, width}, filling, gate.options());
  for (int64_t e = 0; e < n; ++e)
    whole.rows(e, 1).reshape({rows, width}).rows(0, hidden).copy_from(gate.rows(e, 1).reshape({hidden, width}));
  return whole;
}

DEVICE_TEST_CASE("the ERC loss equals the paper's pseudocode in PyTorch, values and all gradients") {
  const Fixture fixture("erc.safetensors");
  for (const int64_t n : {2, 5, 16})
    for (const char* seed : {"_seed0", "_seed1"}) {
      const std::string at = fmt::format("n{}{}", n, seed);
      const Array router = fixture[at + ".router"], gate = fixture[at + ".gate"], delta = fixture[at + ".delta"];
      const int64_t hidden = gate.dim(1);
      CHECK(difference(erc_bound(router), fixture[at + ".epsilon"]) < 1e-12);
      CHECK(difference(erc_matrix(router, gate, hidden, delta), fixture[at + ".matrix"]) < 1e-12);
      for (const auto& [alpha, name] : {std::pair(0.5, "0.5"), {1.0, "1"}, {2.0, "2"}}) {
        const std::string run_name = fmt::format("{}.alpha{}", at, name);
        INFO(run_name);
        const double loss = fixture[run_name + ".loss"].item();
        const Array drouter = fixture[run_name + ".drouter"], dgate = fixture[run_name + ".dgate"];
        const Result alone = run(router, gate, hidden, delta, alpha);
        CHECK(std::abs(alone.loss - loss) <= 1e-10 * loss);
        CHECK(difference(alone.drouter, drouter) < 1e-10);
        CHECK(difference(alone.dgate, dgate) < 1e-10);
        // The gate as the first half of gate_up: the other half changes nothing and gets nothing.
        const Result half = run(router, with_other_rows(gate, 2 * hidden, 1e3), hidden, delta, alpha);
        CHECK(half.loss == alone.loss);
        CHECK(difference(half.drouter, drouter) < 1e-10);
        CHECK(difference(half.dgate, with_other_rows(dgate, 2 * hidden, 0)) < 1e-10);
        // In f32 the same, rounded.
        const Result f32 = run(router.to(Dtype::f32), gate.to(Dtype::f32), hidden, delta.to(Dtype::f32), alpha);
        CHECK(std::abs(f32.loss - loss) <= 1e-5 * loss);
        CHECK(difference(f32.drouter, drouter) < 1e-4);
        CHECK(difference(f32.dgate, dgate) < 1e-4);
      }
    }
}

DEVICE_TEST_CASE("the ERC loss adds to gradients that are there already, and passes on its cotangent") {
  const Array router = random({5, 4}, 1), gate = random({5, 6, 4}, 2), delta = erc_noise(router, {.seed = 3});
  const Result once = run(router, gate, 3, delta, 1);
  const Tensor r = leaf(router), w = leaf(gate);
  for (int pass = 0; pass < 2; ++pass) erc_loss(r, w, 3, delta, 1).backward(Array::full({}, -1.5, router.options()));
  const auto scaled = [](const Array& x) { return (Tensor(x) * -3.0).value(); };
  CHECK(difference(r.grad(), scaled(once.drouter)) < 1e-13);
  CHECK(difference(w.grad(), scaled(once.dgate)) < 1e-13);
  // One gradient alone is the same as both together.
  const Tensor only_r = leaf(router), only_w = leaf(gate);
  erc_loss(only_r, Tensor(gate), 3, delta, 1).backward();
  erc_loss(Tensor(router), only_w, 3, delta, 1).backward();
  CHECK(same_bits(only_r.grad(), once.drouter));
  CHECK(same_bits(only_w.grad(), once.dgate));
}

// How far M is from every kink of the hinges, as a part of its largest entry.
double margin(const Array& matrix, double alpha) {
  const Numbers m = matrix.to_vector<double>();
  const auto n = static_cast<size_t>(matrix.dim(0));
  double least = HUGE_VAL, top = 0;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) {
      top = std::max(top, m[i * n + j]);
      if (j == i) continue;
      for (const size_t k : {i * n + i, j * n + j}) least = std::min(least, std::abs(m[i * n + j] - alpha * m[k]));
    }
  return least / top;
}

DEVICE_TEST_CASE("gradients of the ERC loss agree with differences, delta and active hinges held fixed") {
  int tried = 0, checked = 0;
  for (const int64_t n : {2, 4, 7})
    for (const double alpha : {0.0, 0.5, 1.0, 2.0})
      for (uint64_t seed = 0; seed < (small_only() ? 1 : 8); ++seed) {
        ++tried;
        const Array router = random({n, 5}, 50 + seed), gate = random({n, 6, 5}, 80 + seed);
        const Array delta = erc_noise(router, {.seed = seed});
        if (margin(erc_matrix(router, gate, 4, delta), alpha) < 2e-3) continue;
        ++checked;
        check_gradients([&](std::span<const Tensor> x) { return erc_loss(x[0], x[1], 4, delta, alpha); },
                        {leaf(router), leaf(gate)}, {.step = 1e-4, .directions = 1});
      }
  CHECK(16 * checked >= 5 * tried);
}

DEVICE_TEST_CASE("the ERC loss in little memory equals the loss in one piece") {
  const Array router = random({19, 10}, 4), gate = random({19, 24, 10}, 5), delta = erc_noise(router, {.seed = 6});
  poison_new_memory(true);  // nothing that was not written is read
  const Result whole = run(router, gate, 13, delta, 1);
  const int64_t one_expert = 19 * 13 * 8;
  // Some experts at a time, one, a part of one's rows, one row, and less than that.
  int64_t least = 0;
  for (const int64_t bytes : {int64_t{1}, int64_t{152}, int64_t{400}, one_expert / 2, one_expert, 3 * one_expert,
                              9 * one_expert, 18 * one_expert}) {
    INFO(bytes);
    reset_peak_memory();
    const int64_t before = memory_of(current_device()).live_bytes;
    const Result pieces = run(router, gate, 13, delta, 1, {.bytes = bytes});
    const int64_t held = memory_of(current_device()).peak_bytes - before;
    if (bytes == 1) least = held;
    const int64_t partial_sums = current_device().is_cpu() ? 0 : bytes;         // a GPU keeps more of them at once
    CHECK(held <= least + bytes + std::max(8 * router.bytes(), partial_sums));  // up to eight partial sums of dR
    CHECK(std::abs(pieces.loss - whole.loss) <= 1e-12 * whole.loss);
    CHECK(difference(pieces.drouter, whole.drouter) < 1e-12);
    CHECK(difference(pieces.dgate, whole.dgate) < 1e-12);
    CHECK(difference(erc_matrix(router, gate, 13, delta, {.bytes = bytes}), erc_matrix(router, gate, 13, delta)) <
          1e-14);
  }
  poison_new_memory(false);
}

DEVICE_TEST_CASE("the noise bound equals Eq. 4 in plain loops") {
  for (const int64_t n : {2, 3, 33}) {
    const Array router = random({n, 7}, static_cast<uint64_t>(n));
    const Numbers r = router.to_vector<double>(), epsilon = erc_bound(router).to_vector<double>();
    for (int64_t i = 0; i < n; ++i) {
      double nearest = HUGE_VAL, norm = 0;
      for (int64_t j = 0; j < n; ++j) {
        double squares = 0;
        for (int64_t k = 0; k < 7; ++k) {
          const double apart = r[static_cast<size_t>(i * 7 + k)] - (j == i ? 0 : r[static_cast<size_t>(j * 7 + k)]);
          squares += apart * apart;
        }
        (j == i ? norm : nearest) = j == i ? std::sqrt(squares) : std::min(nearest, std::sqrt(squares));
      }
      CHECK(epsilon[static_cast<size_t>(i)] == doctest::Approx(nearest / (2 * norm)).epsilon(1e-13));
    }
  }
  // Short rows exceed 1: the bound isn't capped. A zero row and a single expert get 0.
  const Array uneven = Array::from(Numbers{10, 0, 0.1, 0, 0, 0}, {3, 2}, current_device());
  const Numbers epsilon = erc_bound(uneven).to_vector<double>();
  CHECK(epsilon[0] == doctest::Approx(0.495));
  CHECK(epsilon[1] == doctest::Approx(0.5));
  CHECK(epsilon[2] == 0);
  CHECK(erc_bound(Array::from(Numbers{0, 3, 0.1, 0}, {2, 2}, current_device())).to_vector<double>()[1] > 10);
  CHECK(erc_bound(random({1, 4}, 1)).to_vector<double>() == Numbers{0});
}

DEVICE_TEST_CASE("noise stays inside its bound, and proxies stay nearest to their own row") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32})
    for (uint32_t step = 0; step < 40; ++step) {
      const int64_t n = 2 + step % 9, width = 1 + step % 6;
      const auto rows = static_cast<size_t>(n), cols = static_cast<size_t>(width);
      Array router = random({n, width}, step, 1, dtype);
      if (step % 2 == 1)  // rows of very different lengths
        router = (Tensor(router) * Tensor(random({n, 1}, 100 + step, 3, dtype))).value();
      const Numbers r = router.to_vector<double>(), epsilon = erc_bound(router).to_vector<double>();
      const Numbers delta = erc_noise(router, {.seed = 7, .stream = 8, .step = step}).to_vector<double>();
      const double slack = dtype == Dtype::f64 ? 1e-14 : 1e-6;
      for (size_t i = 0; i < rows; ++i) {
        for (size_t k = 0; k < cols; ++k) CHECK(std::abs(delta[i * cols + k] - 1) <= epsilon[i] * (1 + slack) + slack);
        const auto distance = [&](size_t j) {
          double squares = 0;
          for (size_t k = 0; k < cols; ++k)
            squares += std::pow(r[i * cols + k] * delta[i * cols + k] - r[j * cols + k], 2);
          return std::sqrt(squares);
        };
        for (size_t j = 0; j < rows; ++j) CHECK(distance(i) <= distance(j) * (1 + 100 * slack));
      }
    }
}

DEVICE_TEST_CASE("noise is a function of its key and covers its range evenly") {
  const Array router = random({8, 64}, 9);
  CHECK(same_bits(erc_noise(router, {1, 2, 3}), erc_noise(router, {1, 2, 3})));
  for (const RandomKey& other : {RandomKey{2, 2, 3}, {1, 3, 3}, {1, 2, 4}})
    CHECK_FALSE(same_bits(erc_noise(router, {1, 2, 3}), erc_noise(router, other)));
  const Numbers epsilon = erc_bound(router).to_vector<double>();
  double total = 0, squares = 0, most = 0;
  const int steps = 20;
  for (uint32_t step = 0; step < steps; ++step) {
    const Numbers delta = erc_noise(router, {1, 2, step}).to_vector<double>();
    for (size_t i = 0; i < delta.size(); ++i) {
      const double u = (delta[i] - 1) / epsilon[i / 64];  // uniform in (-1, 1)
      total += u, squares += u * u, most = std::max(most, std::abs(u));
    }
  }
  const double count = steps * 8 * 64;
  CHECK(std::abs(total / count) < 0.025);
  CHECK(squares / count == doctest::Approx(1.0 / 3).epsilon(0.03));
  CHECK(most > 0.999);
}

DEVICE_TEST_CASE("the ERC loss at its edges") {
  // A single expert: no constraint.
  const Result single = run(random({1, 4}, 1), random({1, 3, 4}, 2), 3, {}, 1);
  CHECK(single.loss == 0);
  CHECK(all_zero(single.drouter));
  CHECK(all_zero(single.dgate));
  // Proxies and experts all alike: every hinge is at equality, where the gradient is 0 (a constraint holds at alpha =
  // 1).
  const Result alike = run(Array::full({3, 2}, 1.0, {Dtype::f64, current_device()}),
                           Array::full({3, 2, 2}, 1.0, {Dtype::f64, current_device()}), 2, {}, 1);
  CHECK(alike.loss == 0);
  CHECK(all_zero(alike.drouter));
  CHECK(all_zero(alike.dgate));
  // A row and an expert at zero: norms at 0 have gradient 0, nothing is NaN.
  Numbers rows = random({3, 2}, 3).to_vector<double>(), gates = random({3, 2, 2}, 4).to_vector<double>();
  rows[0] = rows[1] = gates[8] = gates[9] = gates[10] = gates[11] = 0;
  const Array router = Array::from(rows, {3, 2}, current_device());
  const Result zeros = run(router, Array::from(gates, {3, 2, 2}, current_device()), 2, erc_noise(router, {}), 1);
  CHECK(std::isfinite(zeros.loss));
  CHECK(zeros.loss > 0);
  CHECK(all_zero(zeros.drouter.rows(0, 1)));
  CHECK(all_zero(zeros.dgate.rows(2, 1)));
  CHECK_FALSE(all_zero(zeros.drouter));
  // Norms too small to be more than 0 have none either.
  const Result tiny = run(random({3, 2}, 3, 1, Dtype::f32), random({3, 2, 2}, 4, 1e-30, Dtype::f32), 2, {}, 1);
  CHECK(tiny.loss == 0);
  CHECK(all_zero(tiny.drouter));
  CHECK(all_zero(tiny.dgate));
  // NaN stays visible.
  CHECK(std::isnan(run(Array::full({2, 2}, NAN, {Dtype::f64, current_device()}), random({2, 2, 2}, 5), 2, {}, 1).loss));
}

DEVICE_TEST_CASE("the ERC loss by hand") {
  // R = I, W_g^j = w_j e_j^T + c: M = [[3, 1], [2, 4]]
  const Array router = Array::from(Numbers{1, 0, 0, 1}, {2, 2}, current_device()),
              gate = Array::from(Numbers{3, 2, 1, 4}, {2, 1, 2}, current_device());
  CHECK(erc_matrix(router, gate, 1).to_vector<double>() == Numbers{3, 1, 2, 4});
  CHECK(run(router, gate, 1, {}, 1).loss == 0);
  CHECK(erc_violations(erc_matrix(router, gate, 1), 1) == 0);
  // alpha = 1/2: row 0: 1 - 1.5 < 0, 2 - 1.5 = 0.5; row 1: 2 - 2 = 0 (at equality), 1 - 2 < 0
  const Result half = run(router, gate, 1, {}, 0.5);
  CHECK(half.loss == doctest::Approx(0.5 / 4));
  CHECK(erc_violations(erc_matrix(router, gate, 1), 0.5) == 1);
  CHECK(half.dgate.to_vector<double>() == Numbers{-0.125, 0.25, 0, 0});  // dM[1,0] = 1/4, dM[0,0] = -1/8
  // alpha = 0: all of M's other entries, twice
  CHECK(run(router, gate, 1, {}, 0).loss == doctest::Approx(2 * (1 + 2) / 4.0));
  CHECK(erc_violations(erc_matrix(router, gate, 1), 0) == 4);
}

DEVICE_TEST_CASE("products of the ERC loss that aren't kept are made again: the same bits, and no memory in between") {
  const int64_t n = 16, hidden = 64;
  const Array router = random({n, 32}, 1), gate = random({n, hidden, 32}, 2), delta = erc_noise(router, {.seed = 1});
  std::array<int64_t, 2> held{};
  std::array<Result, 2> results;
  for (const bool keep : {false, true}) {
    const Tensor r = leaf(router), w = leaf(gate);
    const int64_t before = memory_of(current_device()).live_bytes;
    const Tensor loss = erc_loss(r, w, hidden, delta, 1, {.keep = keep});
    held[keep] = memory_of(current_device()).live_bytes - before;
    loss.backward();
    results[keep] = {loss.item(), r.grad(), w.grad()};
  }
  CHECK(held[true] - held[false] == n * n * hidden * 8);
  CHECK(results[true].loss == results[false].loss);
  CHECK(same_bits(results[true].drouter, results[false].drouter));
  CHECK(same_bits(results[true].dgate, results[false].dgate));
}

DEVICE_TEST_CASE("the ERC loss in TF32 is near f32 on a GPU, and f32 elsewhere") {
  const Array router = random({16, 64}, 1, 0.1, Dtype::f32), gate = random({16, 128, 64}, 2, 0.1, Dtype::f32);
  const Array delta = erc_noise(router, {.seed = 1});
  const double alpha = 0.3;  // no hinge near its corner
  const Result exact = run(router, gate, 64, delta, alpha), fast = run(router, gate, 64, delta, alpha, {.tf32 = true});
  const double allowed = current_device().is_cpu() ? 0 : 5e-3;
  CHECK(std::abs(fast.loss - exact.loss) <= allowed * exact.loss);
  CHECK(difference(fast.drouter, exact.drouter) <= allowed);
  CHECK(difference(fast.dgate, exact.dgate) <= allowed);
}

DEVICE_TEST_CASE("the ERC loss gives the same bits for one, two and three threads") {
  const Array router = random({16, 64}, 1, 0.1, Dtype::f32), gate = random({16, 128, 64}, 2, 0.1, Dtype::f32);
  const Array delta = erc_noise(router, {.seed = 1});
  const int before = threads();
  std::vector<Result> results;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    results.push_back(run(router, gate, 64, delta, 1));
    results.push_back(run(router, gate, 64, delta, 1, {.bytes = 100000}));
  }
  set_threads(before);
  for (size_t i = 2; i < results.size(); ++i) {
    CHECK(results[i].loss == results[i % 2].loss);
    CHECK(same_bits(results[i].drouter, results[i % 2].drouter));
    CHECK(same_bits(results[i].dgate, results[i % 2].dgate));
  }
}

}  // namespace
}  // namespace moxie::moe
