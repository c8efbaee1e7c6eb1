// SPDX-License-Identifier: Apache-2.0
// The op table: a row says what an op should compute, and run() proves it in every respect that all ops share.
#pragma once
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/ops.h"
#include "tests/ops/ranges.h"

namespace moxie::testing {

// Numbers in f64, as a reference sees and makes them.
struct Numbers {
  Shape shape;
  std::vector<double> at;
  Numbers() = default;
  explicit Numbers(const Shape& size) : shape(size), at(static_cast<size_t>(size.numel())) {}
  double& operator[](int64_t i) { return at[static_cast<size_t>(i)]; }
  double operator[](int64_t i) const { return at[static_cast<size_t>(i)]; }
};

// Draws one element from a standard normal and a uniform (0, 1) number.
using Generator = double (*)(double normal, double uniform);
double normal(double normal, double uniform);
double positive(double normal, double uniform);        // in (0.5, 2.5)
double away_from_zero(double normal, double uniform);  // 0.1 or more on either side
double moderate(double normal, double uniform);        // in (-1, 1)

struct Input {
  Shape shape;
  Generator generate = normal;
  bool statistics = false;  // kept in f32 where the others are bf16
  bool distinct = false;    // the elements of each row are a shuffled ladder, far apart even in bf16: no ties
};

struct Tolerances {
  double f64 = 1e-12, f32 = 4e-6, bf16 = 8e-3;  // of an element or of the root mean square, whichever is larger
};

// In sanitized code gcc leaves the sums that `omp simd` splits into lanes one by one: over 20,000 numbers, as in rows
// of pow and layer_norm, the rounding of f32 adds up further.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr double f32_slack = 4;
#else
inline constexpr double f32_slack = 1;
#endif

struct OpRow {
  std::string covers = {};  // the declaration in autograd/ops.h, types only: "sum(Tensor, int64_t, bool)"
  std::string name = {};    // what is special about this row
  std::function<Tensor(std::span<const Tensor>)> function = {};
  std::function<Numbers(std::span<const Numbers>)> reference = {};  // plain loops
  std::vector<Input> inputs = {};
  Tolerances tolerances = {};
  bool bf16 = true;        // computes in bf16 as well
  bool dtype_kept = true;  // the result has the dtype of the first input (otherwise that of its statistics)
};

// Checks forward against the reference, gradients against differences, f32 and bf16 against f64, single gradients
// against joint ones, accumulation, parameters kept in f32, reads of unset memory, untouched inputs, and bit-equal
// results for two runs and for one, two and three threads (f32; otherwise two), that a change in place between forward
// and backward is told or harmless, and that anomaly mode finds nothing. Where there is a GPU, all that depends on the
// device again there, and CPU = GPU. Marks the declaration as covered.
void run(const OpRow& row);
void run(const std::vector<OpRow>& rows);

// Marks a declaration as tested by a test case of its own.
void covers(std::string_view declaration);

// What the inputs of a declaration's rows looked like so far.
struct Coverage {
  bool rows = false;  // false: only a test case of its own
  bool empty = false, size_one = false;
  bool around_32 = false, around_1024 = false;  // a dimension that ends just before, at or after a vector or a block
};
const std::map<std::string, Coverage>& coverage();

// n numbers below `limit`, drawn by seed.
Array random_indices(const Shape& shape, int64_t limit, uint64_t seed = 7);

// While an instance lives, new memory is filled with NaN.
struct Poison {
  Poison() { poison_new_memory(true); }
  ~Poison() { poison_new_memory(false); }
};

// Sizes that end within, at and beyond vectors, rows of elementwise kernels and the parallel threshold.
inline const std::vector<int64_t> edge_sizes = {0, 1, 31, 33, 1023, 1025};

}  // namespace moxie::testing
