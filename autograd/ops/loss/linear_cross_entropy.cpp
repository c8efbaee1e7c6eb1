// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "autograd/ops/loss/common.h"
#include "core/gemm.h"
#include "core/kernels/elementwise/scale_by_ratio.h"
#include "core/kernels/loss/cross_entropy.h"

namespace moxie {
namespace {

// The pieces in which logits are computed: `chunk` rows at a time, all of one width.
struct Chunks {
  int64_t rows, width, classes, chunk;

  Chunks(int64_t all_rows, int64_t columns, int64_t vocabulary, Dtype dtype, int64_t logit_bytes)
      : rows(all_rows), width(columns), classes(vocabulary) {
    constexpr int64_t tile = 128;  // rows that suit the matmul
    const int64_t fitting = logit_bytes / std::max<int64_t>(classes * size_of(dtype), 1);
    chunk = std::clamp<int64_t>(fitting > tile ? fitting / tile * tile : fitting, 1, std::max<int64_t>(rows, 1));
  }
  int64_t count(int64_t first) const { return std::min(chunk, rows - first); }
};

// What the rule needs: the gradients of the sum of all losses, and how many losses there are.
struct Saved {
  Array dx, dweight, count;
};

// y = x W^T for the rows from `first`
void project(const Chunks& c, int64_t first, const Array& x, const Array& weight, const Array& y) {
  gemm(x.device(), {.dtype = x.dtype(),
                    .out_dtype = x.dtype(),
                    .transpose_b = true,
                    .m = c.count(first),
                    .n = c.classes,
                    .k = c.width,
                    .a = x.raw() + first * c.width * size_of(x.dtype()),
                    .lda = c.width,
                    .b = weight.raw(),
                    .ldb = c.width,
                    .c = y.raw(),
                    .ldc = c.classes});
}

// dx = dy W for the rows from `first`, and dW (+)= dy^T x over them
void gradients(const Chunks& c, int64_t first, const Array& x, const Array& weight, const Array& dy, const Saved& to) {
  const int64_t skipped = first * c.width * size_of(x.dtype());
  if (to.dx.defined())
    gemm(x.device(), {.dtype = x.dtype(),
                      .out_dtype = x.dtype(),
                      .m = c.count(first),
                      .n = c.width,
                      .k = c.classes,
                      .a = dy.raw(),
                      .lda = c.classes,
                      .b = weight.raw(),
                      .ldb = c.width,
                      .c = to.dx.raw() + skipped,
                      .ldc = c.width});
  if (to.dweight.defined())
    gemm(x.device(), {.dtype = x.dtype(),
                      .out_dtype = to.dweight.dtype(),
                      .transpose_a = true,
                      .accumulate = first > 0,
                      .m = c.classes,
                      .n = c.width,
                      .k = c.count(first),
                      .a = dy.raw(),
                      .lda = c.classes,
                      .b = x.raw() + skipped,
                      .ldb = c.width,
                      .c = to.dweight.raw(),
                      .ldc = c.width});
}

// into (+)= dloss / count x
template <class From, class T>
void scale(const Array& x, const Array& dloss, const Array& count, const Grads::Target& into) {
  using V = Accumulator<T>;
  const ScaleByRatio<From, T> kernel{x.data<From>(), dloss.data<V>(), count.data<V>(),
                                     into.data<T>(), x.numel(),       into.accumulate};
  for_elements(x.device(), kernel, x.numel());
}

void backward(const Saved& s, const Array& dloss, Grads& grads) {
  if (grads.needs(0)) {
    const Grads::Target dx = grads.into(0);
    dispatch_float("backward", s.dx.dtype(), [&]<class T>(T) { scale<T, T>(s.dx, dloss, s.count, dx); });
  }
  if (grads.needs(1)) {
    const Grads::Target dweight = grads.into_wide(1);
    dispatch_float("backward", dweight.array.dtype(),
                   [&]<class T>(T) { scale<Accumulator<T>, T>(s.dweight, dloss, s.count, dweight); });
  }
}

int32_t check_inputs(const Tensor& x, const Tensor& weight, const Array& targets, int64_t ignore_index) {
  check_same_kind("linear_cross_entropy", x.value(), "x", weight.value(), "weight");
  check(is_float(x.dtype()), "linear_cross_entropy: needs a float dtype (f64, f32 or bf16), got {}",
        name_of(x.dtype()));
  check(x.shape().rank() >= 1 && weight.shape().rank() == 2 && weight.dim(1) == x.dim(-1),
        "linear_cross_entropy: x must be [.., width] and weight [classes, width], got {} and {}", x.shape(),
        weight.shape());
  check(targets.shape() == x.shape().without(x.shape().rank() - 1),
        "linear_cross_entropy: targets must have x's shape without the last dimension, got x {} and targets {}",
        x.shape(), targets.shape());
  check(weight.dim(0) > 0, "linear_cross_entropy: there must be at least one class, got weight {}", weight.shape());
  const int32_t ignored = std::in_range<int32_t>(ignore_index) ? static_cast<int32_t>(ignore_index) : -1;
  check_indices("linear_cross_entropy", targets, weight.dim(0), x.device(),
                ignored == ignore_index ? std::optional(ignored) : std::nullopt);
  return ignored;
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Array& targets, int64_t ignore_index,
                            int64_t logit_bytes) {
  const OpRange range("linear_cross_entropy");
  const int32_t ignored = check_inputs(x, weight, targets, ignore_index);
  const Chunks c(targets.numel(), x.dim(-1), weight.dim(0), x.dtype(), logit_bytes);
  const Options statistics{statistics_dtype(x.dtype()), x.device()};
  const bool records = will_record({x, weight});
  Saved saved{{}, {}, Array::empty({}, statistics)};
  if (records && x.requires_grad()) saved.dx = Array::empty(x.shape(), x.options());
  if (records && weight.requires_grad())
    saved.dweight = c.rows > 0 ? Array::empty(weight.shape(), statistics) : Array::zeros(weight.shape(), statistics);
  const Array logits = Array::empty({c.count(0), c.classes}, x.options());
  const Array lse = records ? Array() : Array::empty({c.rows}, statistics);
  const Array parts = Array::empty({2, c.rows}, statistics);
  const Array loss = Array::empty({}, statistics);
  dispatch_float("linear_cross_entropy", x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    for (int64_t first = 0; first < c.rows; first += c.chunk) {
      project(c, first, x.value(), weight.value(), logits);
      T* const y = logits.data<T>();
      const int32_t* target = targets.data<int32_t>() + first;
      V *loss_at = parts.data<V>() + first, *counted_at = loss_at + c.rows;
      if (records) {
        const CrossEntropyInPlace<T> kernel{y, target, loss_at, counted_at, c.classes, ignored};
        for_rows(x.device(), kernel, c.count(first), c.classes);
        gradients(c, first, x.value(), weight.value(), logits, saved);
      } else {
        const CrossEntropy<T> kernel{y, target, lse.data<V>() + first, loss_at, counted_at, c.classes, ignored};
        for_rows(x.device(), kernel, c.count(first), c.classes);
      }
    }
    const Array totals = reduce_sum(parts, 2, c.rows, 1);  // the losses and their count
    mean_loss(totals, saved.count, loss);
  });
  return record("linear_cross_entropy", loss, {x, weight},
                [saved](std::span<const Array> dloss, Grads& grads) { backward(saved, dloss[0], grads); });
}

}  // namespace moxie
