// SPDX-License-Identifier: Apache-2.0
// core/philox.h: known answers, consistency between its forms, and the distributions.
#include "core/philox.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "core/team.h"

using namespace moxie;

namespace {

constexpr RandomKey key{.seed = 0x123456789ABCDEFull, .stream = 7, .step = 42};

std::array<uint32_t, 4> words_of(const Philox4& block) {
  return {block.word[0], block.word[1], block.word[2], block.word[3]};
}

std::vector<float> draw_normal(RandomKey k, uint64_t first, int64_t n) {
  std::vector<float> z(static_cast<size_t>(n), std::numeric_limits<float>::quiet_NaN());
  float* out = z.data();
  each_normal(SerialTeam{}, k, first, n, [=](int64_t i, float value) { out[i] = value; });
  return z;
}

std::vector<float> draw_uniform(RandomKey k, uint64_t first, int64_t n) {
  std::vector<float> u(static_cast<size_t>(n), std::numeric_limits<float>::quiet_NaN());
  float* out = u.data();
  each_uniform(SerialTeam{}, k, first, n, [=](int64_t i, float value) { out[i] = value; });
  return u;
}

// The largest distance between the empirical and the expected distribution function (Kolmogorov and Smirnov).
template <class Cdf> double distance_from(std::vector<float> samples, Cdf cdf) {
  std::sort(samples.begin(), samples.end());
  const double n = static_cast<double>(samples.size());
  double distance = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const double expected = cdf(static_cast<double>(samples[i]));
    const double below = static_cast<double>(i) / n;
    distance = std::max({distance, expected - below, below + 1 / n - expected});
  }
  return distance;
}

double correlation(const std::vector<float>& a, const std::vector<float>& b, size_t shift = 0) {
  double sum = 0;
  const size_t n = a.size() - shift;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i + shift]);
  return sum / static_cast<double>(n);
}

}  // namespace

TEST_CASE("philox: the known answers of Random123") {
  const uint32_t zero_counter[4] = {0, 0, 0, 0}, zero_key[2] = {0, 0};
  CHECK(words_of(philox4x32_10(zero_counter, zero_key)) ==
        std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  const uint32_t ones = 0xffffffffu;
  const uint32_t one_counter[4] = {ones, ones, ones, ones}, one_key[2] = {ones, ones};
  CHECK(words_of(philox4x32_10(one_counter, one_key)) ==
        std::array<uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  const uint32_t pi_counter[4] = {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u};
  const uint32_t pi_key[2] = {0xa4093822u, 0x299f31d0u};
  CHECK(words_of(philox4x32_10(pi_counter, pi_key)) ==
        std::array<uint32_t, 4>{0xd16cfe09u, 0x94fdcceBu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("random_block: where key and block go in the counter") {
  const uint32_t counter[4] = {0x89ABCDEFu, 0x01234567u, 42, 7}, words[2] = {0x89ABCDEFu, 0x01234567u};
  CHECK(words_of(random_block(key, 0x0123456789ABCDEFull)) == words_of(philox4x32_10(counter, words)));
}

TEST_CASE("random: an element is the same drawn alone, in its block and in a row") {
  for (const uint64_t first : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{3}, (uint64_t{1} << 34) - 6}) {
    for (const int64_t n : {0, 1, 2, 3, 4, 5, 8, 31, 33, 200, 255, 256, 257, 1000}) {
      const std::vector<float> z = draw_normal(key, first, n), u = draw_uniform(key, first, n);
      int64_t different = 0;
      for (int64_t i = 0; i < n; ++i) {
        const uint64_t element = first + static_cast<uint64_t>(i);
        const size_t at = element % 4;
        different += random_bits(key, element) != random_block(key, element / 4).word[at];
        different += u[static_cast<size_t>(i)] != uniform_at(key, element);
        different += u[static_cast<size_t>(i)] != uniform4(key, element / 4).value[at];
        different += u[static_cast<size_t>(i)] != uniform(random_bits(key, element));
        different += z[static_cast<size_t>(i)] != normal_at(key, element);
        different += z[static_cast<size_t>(i)] != normal4(key, element / 4).value[at];
      }
      CHECK(different == 0);
    }
  }
}

TEST_CASE("uniform: never 0 or 1, symmetric, in even steps") {
  CHECK(uniform(0u) == std::ldexp(1.0f, -24));
  CHECK(uniform(0xFFFFFFFFu) == 1.0f - std::ldexp(1.0f, -24));
  CHECK(uniform(0x80000000u) == 0.5f + std::ldexp(1.0f, -24));
  CHECK(uniform(0x7FFFFFFFu) == 0.5f - std::ldexp(1.0f, -24));
  int64_t wrong = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 40961) {
    const float u = uniform(static_cast<uint32_t>(bits));
    wrong += !(u > 0.0f && u < 1.0f && u + uniform(~static_cast<uint32_t>(bits)) == 1.0f);
  }
  CHECK(wrong == 0);
}

TEST_CASE("uniform: distribution") {
  const std::vector<float> u = draw_uniform(key, 0, 200000);
  double mean = 0, square = 0;
  for (const float x : u) {
    mean += static_cast<double>(x);
    square += static_cast<double>(x) * static_cast<double>(x);
  }
  const double n = static_cast<double>(u.size());
  CHECK(std::abs(mean / n - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(square / n - 1.0 / 3) < 4 * std::sqrt(4.0 / 45 / n));
  CHECK(distance_from(u, [](double x) { return x; }) < 1.95 / std::sqrt(n));  // one in a thousand keys would fail
}

TEST_CASE("normal: distribution") {
  const std::vector<float> z = draw_normal(key, 0, 200000);
  double moment[5] = {};
  for (const float x : z) {
    double power = 1;
    for (double& m : moment) {
      m += power;
      power *= static_cast<double>(x);
    }
  }
  const double n = moment[0];
  CHECK(std::abs(moment[1] / n) < 4 * std::sqrt(1 / n));
  CHECK(std::abs(moment[2] / n - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::abs(moment[3] / n) < 4 * std::sqrt(15 / n));
  CHECK(std::abs(moment[4] / n - 3) < 4 * std::sqrt(96 / n));
  CHECK(distance_from(z, [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }) < 1.95 / std::sqrt(n));
  CHECK(std::abs(correlation(z, z, 1)) < 4 / std::sqrt(n));  // both halves of a pair, and pairs with their neighbours
  CHECK(std::abs(correlation(z, z, 2)) < 4 / std::sqrt(n));
}

TEST_CASE("normal: near Box and Muller in double, finite at the ends") {
  double worst = 0;
  for (uint64_t element = 0; element < 20000; element += 2) {
    const double radius = std::sqrt(-2 * std::log(static_cast<double>(uniform_at(key, element))));
    const double angle = 2 * std::acos(-1.0) * static_cast<double>(uniform_at(key, element + 1));
    worst = std::max(worst, std::abs(static_cast<double>(normal_at(key, element)) - radius * std::cos(angle)));
    worst = std::max(worst, std::abs(static_cast<double>(normal_at(key, element + 1)) - radius * std::sin(angle)));
  }
  CHECK(worst < 2e-6);
  for (const uint32_t radius : {0u, 0xFFFFFFFFu}) {
    for (const uint32_t angle : {0u, 0x3FFFFFFFu, 0x40000000u, 0x7FFFFFFFu, 0x80000000u, 0xC0000000u, 0xFFFFFFFFu}) {
      const NormalPair pair = normal_pair(radius, angle);
      CHECK(std::abs(pair.first) < 5.78f);
      CHECK(std::abs(pair.second) < 5.78f);
    }
  }
  const NormalPair far = normal_pair(0, 0);
  CHECK(far.first == doctest::Approx(std::sqrt(48 * std::log(2.0))));
}

TEST_CASE("bounded: stays within its bounds and reaches for both") {
  float low = 1, high = 1;
  for (uint64_t element = 0; element < 10000; ++element) {
    const float factor = bounded_at(key, element, 0.25f);
    low = std::min(low, factor);
    high = std::max(high, factor);
  }
  CHECK(low >= 0.75f);
  CHECK(low < 0.751f);
  CHECK(high <= 1.25f);
  CHECK(high > 1.249f);
  CHECK(bounded_at(key, 5, 0.0f) == 1.0f);
}

TEST_CASE("random: seeds, streams and steps differ and are not correlated") {
  const int64_t n = 100000;
  const double bound = 4 / std::sqrt(static_cast<double>(n));
  const std::vector<float> z = draw_normal(key, 0, n);
  for (const RandomKey other :
       {RandomKey{key.seed + 1, key.stream, key.step}, RandomKey{key.seed, key.stream + 1, key.step},
        RandomKey{key.seed, key.stream, key.step + 1}, RandomKey{key.seed + (uint64_t{1} << 32), key.stream, key.step},
        RandomKey{key.seed, key.step, key.stream}}) {
    const std::vector<float> w = draw_normal(other, 0, n);
    CHECK(w != z);
    CHECK(std::abs(correlation(z, w)) < bound);
    CHECK(std::abs(correlation(z, w, 1)) < bound);
  }
  CHECK(draw_normal(key, 0, n) == z);
}
