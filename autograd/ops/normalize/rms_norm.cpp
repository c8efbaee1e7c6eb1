// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/normalize/rms_norm.h"

#include <algorithm>

#include "autograd/ops/common.h"
#include "autograd/ops/normalize.h"
#include "core/reduce.h"

namespace moxie {
namespace {

void check_norm(const char* op, const Tensor& x, const Tensor& weight, double epsilon) {
  check(x.shape().rank() >= 1 && weight.shape() == Shape({x.shape().cols()}),
        "{}: weight must be [width], got x {} and weight {}", op, x.shape(), weight.shape());
  check(weight.device() == x.device() && weight.dtype() == statistics_dtype(x.dtype()),
        "{}: for x in {} on {} the weight must be {} there, got {} on {}", op, name_of(x.dtype()), x.device().name(),
        name_of(statistics_dtype(x.dtype())), name_of(weight.dtype()), weight.device().name());
  check(epsilon >= 0, "{}: epsilon must not be negative, got {}", op, epsilon);
}

// What the backward pass needs of x, the rows that were normalised.
struct Saved {
  Array x, weight, rstd;
};

// How many rows share a partial sum of the weight's gradient: those of a block on a GPU, fewer where rows are few.
int64_t rows_of_chunk(Device device, int64_t rows) {
  constexpr int64_t most = 64;
  return device.is_cpu() ? most : std::clamp<int64_t>(rows / 256, 16, most);
}

// dx = added + the norm's gradient; `added` undefined: that alone. -> the weight's gradient, undefined where not wanted
Array backward(const Saved& saved, const Array& dy, const Array& added, const Array& dx, bool wants_weight) {
  const int64_t rows = dx.shape().rows(), cols = dx.shape().cols();
  const Device device = dx.device();
  return dispatch_float("backward", dx.dtype(), [&]<class T>(T) -> Array {
    using V = Accumulator<T>;
    const RmsNormBackward<T> kernel{.x = saved.x.data<T>(),
                                    .weight = saved.weight.data<V>(),
                                    .rstd = saved.rstd.data<V>(),
                                    .dy = dy.data<T>(),
                                    .added = added.defined() ? added.data<T>() : nullptr,
                                    .dx = dx.data<T>(),
                                    .cols = cols};
    if (!wants_weight) {
      for_rows(device, kernel, rows, cols);
      return {};
    }
    const int64_t chunk = rows_of_chunk(device, rows);
    const int64_t chunks = (rows + chunk - 1) / chunk;
    const Array partial = Array::empty({chunks, cols}, saved.rstd.options());
    for_rows(device, RmsNormBackwardChunk<T>{kernel, partial.data<V>(), rows, chunk}, chunks, chunk * cols);
    return reduce_sum(partial, 1, chunks, cols).reshape({cols});
  });
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  const OpRange range("rms_norm");
  check_norm("rms_norm", x, weight, epsilon);
  const int64_t rows = x.shape().rows(), cols = x.dim(-1);
  const Array y = Array::empty(x.shape(), x.options());
  const Saved saved{x.value(), weight.value(), Array::empty({rows}, weight.options())};
  dispatch_float("rms_norm", x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const RmsNorm<T> kernel{saved.x.data<T>(), saved.weight.data<V>(), y.data<T>(), saved.rstd.data<V>(), cols,
                            V(epsilon)};
    for_rows(x.device(), kernel, rows, cols);
  });
  return record("rms_norm", y, {x, weight}, [saved](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx =
        grads.needs(0) ? grads.into(0) : Grads::Target{Array::empty(saved.x.shape(), saved.x.options())};
    const Array dw = backward(saved, dy[0], dx.accumulate ? dx.array : Array(), dx.array, grads.needs(1));
    if (grads.needs(1)) grads.give(1, dw);
  });
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): a tensor that is handed over ends here, with its numbers in sum
NormedSum add_rms_norm(const Tensor& x, Tensor branch, const Tensor& weight, double epsilon) {
  const OpRange range("add_rms_norm");
  check_same_kind("add_rms_norm", x.value(), "x", branch.value(), "branch");
  check(x.shape() == branch.shape(), "add_rms_norm: x and branch must have the same shape, got {} and {}", x.shape(),
        branch.shape());
  check_norm("add_rms_norm", x, weight, epsilon);
  const int64_t rows = x.shape().rows(), cols = x.dim(-1);
  const Array sum = may_overwrite(branch.value()) ? branch.value() : Array::empty(x.shape(), x.options());
  const Array y = Array::empty(x.shape(), x.options());
  const Saved saved{sum, weight.value(), Array::empty({rows}, weight.options())};
  dispatch_float("add_rms_norm", x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const AddRmsNorm<T> kernel{.x = x.value().data<T>(),
                               .branch = branch.value().data<T>(),
                               .weight = saved.weight.data<V>(),
                               .sum = sum.data<T>(),
                               .y = y.data<T>(),
                               .rstd = saved.rstd.data<V>(),
                               .cols = cols,
                               .epsilon = V(epsilon)};
    for_rows(x.device(), kernel, rows, cols);
  });
  const std::vector<Tensor> inputs{x, branch, weight};
  const std::vector<Tensor> made =
      record("add_rms_norm", {sum, y}, inputs, [saved](std::span<const Array> dy, Grads& grads) {
        const Array dx = may_overwrite(dy[0]) ? dy[0] : Array::empty(dy[0].shape(), dy[0].options());
        const Array dw = backward(saved, dy[1], dy[0], dx, grads.needs(2));
        for (const size_t input : {size_t{0}, size_t{1}})
          if (grads.needs(input)) grads.give(input, dx);
        if (grads.needs(2)) grads.give(2, dw);
      });
  return {made[0], made[1]};
}

}  // namespace moxie
