// SPDX-License-Identifier: Apache-2.0
#include "moe/noise.h"

#include <cmath>

#include "autograd/ops/common.h"
#include "moe/dispatch.h"
#include "moe/kernels/noise.h"

namespace moxie::moe {
namespace {

constexpr NoiseKind kinds[] = {NoiseKind::none,   NoiseKind::jitter,  NoiseKind::jitter_shared, NoiseKind::gaussian,
                               NoiseKind::gumbel, NoiseKind::learned, NoiseKind::multiplicative};

// What a kind's scale usually is, for error messages.
const char* usual_scale(NoiseKind kind) {
  switch (kind) {
    case NoiseKind::gaussian: return "1 / experts is usual";
    case NoiseKind::gumbel:
    case NoiseKind::learned: return "1 is usual";
    default: return "0.01 is usual";
  }
}

bool is_bounded(NoiseKind kind) {
  return kind == NoiseKind::jitter || kind == NoiseKind::jitter_shared || kind == NoiseKind::multiplicative;
}

// The number of the first draw for a batch's rows.
uint64_t first_draw(const char* op, const Tensor& x, const TokenKey& at) {
  check(x.shape().rank() == 2, "{}: needs [tokens, columns], got {}", op, x.shape());
  check(at.first_token >= 0, "{}: first_token must not be negative, got {}", op, at.first_token);
  return static_cast<uint64_t>(at.first_token * x.dim(1));
}

void check_scores(const char* op, const Tensor& scores) {
  check(scores.dtype() == Dtype::f32 || scores.dtype() == Dtype::f64, "{}: scores must be f32 or f64, got {}", op,
        name_of(scores.dtype()));
}

template <class Draw> Tensor added(const char* op, const Tensor& scores, double scale, const TokenKey& at) {
  const OpRange range(op);
  const uint64_t first = first_draw(op, scores, at);
  check_scores(op, scores);
  const Array y = Array::empty(scores.shape(), scores.options());
  dispatch_statistics(scores.dtype(), [&]<class T>(T) {
    const AddNoise<Draw, T> kernel{scores.value().data<T>(), y.data<T>(), y.numel(), T(scale), at.key, first};
    for_elements(scores.device(), kernel, y.numel());
  });
  return record(op, y, {scores}, [](std::span<const Array> dy, Grads& grads) { grads.give(0, dy[0]); });
}

}  // namespace

const char* name_of(NoiseKind kind) {
  switch (kind) {
    case NoiseKind::none: return "none";
    case NoiseKind::jitter: return "jitter";
    case NoiseKind::jitter_shared: return "jitter_shared";
    case NoiseKind::gaussian: return "gaussian";
    case NoiseKind::gumbel: return "gumbel";
    case NoiseKind::learned: return "learned";
    case NoiseKind::multiplicative: return "multiplicative";
  }
  return "?";
}

NoiseKind noise_kind_from_name(std::string_view name) {
  std::string known;
  for (const NoiseKind kind : kinds) {
    if (name == name_of(kind)) return kind;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name_of(kind));
  }
  throw_invalid_argument(fmt::format("noise: must be one of {}, got '{}'", known, name));
}

bool is_on_scores(NoiseKind kind) {
  return kind != NoiseKind::none && kind != NoiseKind::jitter && kind != NoiseKind::jitter_shared;
}

bool has_deviation(NoiseKind kind) { return kind == NoiseKind::gaussian || kind == NoiseKind::learned; }

void check_noise(const NoiseOptions& options) {
  const char* kind = name_of(options.kind);
  if (options.kind == NoiseKind::none) {
    check(options.scale == 0 && !options.selection_only,
          "noise: scale {}{} belongs to a kind, but the kind is none; set noise.kind", options.scale,
          options.selection_only ? " on the selection only" : "");
    return;
  }
  check(std::isfinite(options.scale) && options.scale > 0, "noise: the scale of {} must be positive, got {}; {}", kind,
        options.scale, usual_scale(options.kind));
  check(!is_bounded(options.kind) || options.scale <= 1, "noise: the scale of {} is a bound of at most 1, got {}", kind,
        options.scale);
  check(!options.selection_only || (is_on_scores(options.kind) && options.kind != NoiseKind::learned),
        "noise: selection_only is for gaussian, gumbel and multiplicative, the kind is {}", kind);
}

TokenKey router_noise_key(const nn::Context& context) {
  check(
      context.micro_batch == 0 || context.first_token > 0,
      "noise: draws are keyed by a token's place in the step's batch; set context.first_token to the number of tokens "
      "before micro-batch {}",
      context.micro_batch);
  return {context.key(nn::Purpose::router_noise, false), context.first_token};
}

Tensor bounded_noise(const Tensor& x, double bound, const TokenKey& at) {
  const OpRange range("bounded_noise");
  const uint64_t first = first_draw("bounded_noise", x, at);
  const auto launch = [=, key = at.key](const Array& from, const Array& into, bool accumulate) {
    dispatch_float("bounded_noise", from.dtype(), [&]<class T>(T) {
      const BoundedNoise<T> kernel{
          from.data<T>(), into.data<T>(), from.numel(), static_cast<Accumulator<T>>(bound), key, first, accumulate};
      for_elements(from.device(), kernel, from.numel());
    });
  };
  const Array y = Array::empty(x.shape(), x.options());
  launch(x.value(), y, false);
  return record("bounded_noise", y, {x}, [launch](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    launch(dy[0], dx.array, dx.accumulate);
  });
}

Tensor gaussian_noise(const Tensor& scores, double scale, const TokenKey& at) {
  return added<GaussianDraw>("gaussian_noise", scores, scale, at);
}

Tensor gumbel_noise(const Tensor& scores, double scale, const TokenKey& at) {
  return added<GumbelDraw>("gumbel_noise", scores, scale, at);
}

Tensor learned_noise(const Tensor& scores, const Tensor& raw, double scale, const TokenKey& at) {
  const OpRange range("learned_noise");
  const uint64_t first = first_draw("learned_noise", scores, at);
  check_scores("learned_noise", scores);
  check(raw.shape() == scores.shape(), "learned_noise: raw must have the scores' shape {}, got {}", scores.shape(),
        raw.shape());
  check_same_kind("learned_noise", scores.value(), "scores", raw.value(), "raw");
  const Array y = Array::empty(scores.shape(), scores.options());
  dispatch_statistics(scores.dtype(), [&]<class T>(T) {
    const LearnedNoise<T> kernel{
        scores.value().data<T>(), raw.value().data<T>(), y.data<T>(), y.numel(), T(scale), at.key, first};
    for_elements(scores.device(), kernel, y.numel());
  });
  return record("learned_noise", y, {scores, raw},
                [a = raw.value(), scale, key = at.key, first](std::span<const Array> dy, Grads& grads) {
                  if (grads.needs(1)) {
                    const Grads::Target draw = grads.into(1);
                    dispatch_statistics(a.dtype(), [&]<class T>(T) {
                      const LearnedNoiseBackward<T> kernel{a.data<T>(), dy[0].data<T>(), draw.data<T>(),
                                                           a.numel(),   T(scale),        key,
                                                           first,       draw.accumulate};
                      for_elements(a.device(), kernel, a.numel());
                    });
                  }
                  if (grads.needs(0)) grads.give(0, dy[0]);
                });
}

}  // namespace moxie::moe
