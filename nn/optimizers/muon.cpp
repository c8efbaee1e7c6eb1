// SPDX-License-Identifier: Apache-2.0
#include "nn/optimizers/muon.h"

#include "core/kernels/optimizer/adam.h"
#include "core/kernels/optimizer/muon.h"

namespace moxie::nn {
namespace {

const MuonOptions& checked(const MuonOptions& o) {
  check(o.lr >= 0 && o.weight_decay >= 0 && o.clip >= 0 && o.adamw_lr_scale >= 0,
        "Muon: lr, weight_decay, clip and adamw_lr_scale must not be negative, got {}, {}, {}, {}", o.lr,
        o.weight_decay, o.clip, o.adamw_lr_scale);
  check(o.momentum >= 0 && o.momentum < 1, "Muon: momentum must be in [0, 1), got {}", o.momentum);
  check(o.iteration.iterations >= 1 && o.iteration.epsilon > 0 && o.epsilon > 0,
        "Muon: iterations must be at least 1 and epsilons positive, got {}, {} and {}", o.iteration.iterations,
        o.iteration.epsilon, o.epsilon);
  check(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1, "Muon: betas must be in [0, 1), got {} and {}",
        o.beta1, o.beta2);
  return o;
}

// A matrix keeps its momentum, everything else AdamW's two moments.
std::vector<const char*> kept(const NamedParameter& named, const MuonOptions& options) {
  const bool is_matrix = options.matrices ? options.matrices(named) : is_muon_matrix(named);
  check(!is_matrix || named.parameter.shape().rank() >= 2,
        "Muon: '{}' can't be taken as a matrix, its shape is {}; it needs at least two dimensions", named.name,
        named.parameter.shape());
  return is_matrix ? std::vector<const char*>{"momentum"} : std::vector<const char*>{"mean", "variance"};
}
bool is_matrix_slot(const OptimizerSlot& slot) { return slot.state.size() == 1; }

double scale_of(MuonScale scale, int64_t out, int64_t in) {
  const auto rows = static_cast<double>(out), cols = static_cast<double>(in);
  return scale == MuonScale::match_adamw ? 0.2 * std::sqrt(std::max(rows, cols))
                                         : std::sqrt(std::max(1.0, rows / cols));
}

}  // namespace

const char* name_of(MuonScale scale) {
  switch (scale) {
    case MuonScale::match_adamw: return "match_adamw";
    case MuonScale::original: return "original";
  }
  return "?";
}

MuonScale muon_scale_from_name(std::string_view name) {
  for (const MuonScale scale : {MuonScale::match_adamw, MuonScale::original})
    if (name == name_of(scale)) return scale;
  throw_invalid_argument(fmt::format("Muon: scale must be match_adamw or original, got '{}'", name));
}

bool is_muon_matrix(const NamedParameter& named) {
  const int64_t rank = named.parameter.shape().rank();
  return (rank == 2 || rank == 3) && !named.parameter.options().table;
}

Muon::Muon(std::vector<NamedParameter> parameters, const MuonOptions& options,
           const std::vector<ParameterGroup>& groups)
    : options_(checked(options)),
      slots_("Muon", std::move(parameters), groups, options.weight_decay,
             [&](const NamedParameter& named) { return kept(named, options); }) {}

// Replaces the direction, which lies in the gradient's place, by the step.
template <class T> void Muon::orthogonalize(const OptimizerSlot& slot) const {
  const Parameter& parameter = slot.named.parameter;
  const Shape& shape = parameter.shape();
  const int64_t rows = shape[-2], cols = shape[-1], count = shape.product(0, shape.rank() - 2);
  T* first = parameter.grad().data<T>();
  const std::vector<int64_t> one{rows}, &stacked = parameter.options().stacked;
  for (const int64_t own_rows : stacked.empty() ? one : stacked) {
    newton_schulz(parameter.value().device(), MatrixBatch<T>{first, count, own_rows, cols, rows * cols},
                  options_.iteration, scale_of(options_.scale, own_rows, cols));
    first += own_rows * cols;
  }
}

// Of the matrices, and of the others.
Rates Muon::rates(double lr, int64_t step) const {
  const auto at = static_cast<double>(step);
  return {{lr}, {lr * options_.adamw_lr_scale, 1 - std::pow(options_.beta1, at), 1 - std::pow(options_.beta2, at)}};
}

GradientNorm Muon::update(double lr, double divisor) {
  return slots_.step(lr, divisor, options_.clip, [&]<class T>(const Segments<T>& segments, const T* factor) {
    Segments<T> matrices(segments.device(), matrices_), others(segments.device(), others_);
    for (const OptimizerSlot* slot : segments.slots()) (is_matrix_slot(*slot) ? matrices : others).add(*slot);
    matrices.template launch<MuonMomentumRows<T>>(T(options_.momentum), factor, options_.nesterov);
    for (const OptimizerSlot* slot : matrices.slots()) orthogonalize<T>(*slot);
    const StepRates<T>* at_step = slots_.rates_on_device<T>(rates(lr, slots_.steps()));
    matrices.template launch<MuonApplyRows<T>>(at_step, factor);
    others.template launch<AdamWRows<T>>(at_step + 1, T(options_.beta1), T(options_.beta2), T(options_.epsilon),
                                         factor);
  });
}

}  // namespace moxie::nn
