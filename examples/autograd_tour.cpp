// SPDX-License-Identifier: Apache-2.0
// A tour of the engine: an op of one's own, gradients, their check, recomputation, anomaly mode, pictures and memory.
#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

#include "autograd/anomaly.h"
#include "autograd/describe.h"
#include "autograd/gradcheck.h"
#include "autograd/memory_report.h"
#include "autograd/ops.h"
#include "autograd/recompute.h"
#include "autograd/record.h"
#include "nn/train/device.h"

using namespace moxie;

// y = sin(x), dx = dy cos(x): an op that lives here and not in the library.
Tensor sine(const Tensor& x) {
  const Array y = Array::empty(x.shape(), x.options());
  dispatch_float("sine", x.dtype(), [&]<class T>(T) {
    for (int64_t i = 0; i < x.numel(); ++i) y.data<T>()[i] = std::sin(Accumulator<T>(x.value().data<T>()[i]));
  });
  return record("sine", y, {x}, [x = x.value()](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);  // write there, or add where a gradient is already
    dispatch_float("sine", x.dtype(), [&]<class T>(T) {
      using V = Accumulator<T>;  // float for bf16
      for (int64_t i = 0; i < x.numel(); ++i) {
        const V g = V(dy[0].data<T>()[i]) * std::cos(V(x.data<T>()[i]));
        dx.data<T>()[i] = dx.accumulate ? V(dx.data<T>()[i]) + g : g;
      }
    });
  });
}

// x on another device, where its gradient comes back from.
Tensor moved(const Tensor& x, Device device) {
  return record("moved", x.value().to(device), {x},
                [from = x.device()](auto dy, Grads& grads) { grads.give(0, dy[0].to(from)); });
}

// autograd_tour [--device cuda]
int main(int argc, char** argv) {
  // Leaves, ops, backward
  const Device device = train::device_from_name(argc > 1 ? argv[argc - 1] : "cpu");
  Tensor w = Tensor::full({3, 4}, 0.5, {Dtype::f32, device}).set_requires_grad().set_name("w");
  const Tensor x = Tensor::from({1, 2, 3, 4, 5, 6, 7, 8}, {2, 4}, device);
  const auto wave = [&](const Tensor& y) { return moved(sine(moved(y, Device::cpu())), device); };  // sine is the CPU's
  const auto loss_of = [&] { return mean(wave(linear(x, w, {}))); };
  const Tensor loss = loss_of();
  fmt::print("loss {:.4f}\n\n{}\n", loss.item(), describe(loss));  // describe_dot(loss) is the same for Graphviz
  fmt::print("{}\n", memory_report(loss));
  loss.backward();
  fmt::print("dw {}\n", w.grad());
  w.clear_grad();

  // Is the rule right? Compare it with differences, in f64.
  const GradcheckResult result = gradcheck([](std::span<const Tensor> in) { return sine(in[0]); },
                                           {Tensor::full({2, 2}, 0.3, {Dtype::f64}).set_requires_grad()});
  fmt::print("gradcheck: {}, worst error {:.1e}\n", result ? "fine" : result.message, result.worst);

  // Less memory: forget what is inside, and compute it again when backward comes.
  const Segment segment = [&](std::span<const Tensor> in) { return std::vector{wave(wave(linear(in[0], w, {})))}; };
  const Tensor lean = mean(recompute(segment, {x})[0]);
  fmt::print("\n{}", describe(lean));
  lean.backward();

  // No history at all
  {
    const NoGrad guard;
    fmt::print("\nrequires a gradient under NoGrad: {}\n", loss_of().requires_grad());
  }

  // Where does the NaN come from?
  try {
    const AnomalyMode guard;
    const Tensor root = mean(moxie::sqrt(relu(w - 0.5)));  // the root of 0 has no slope
    root.backward();
  } catch (const std::runtime_error& error) {
    fmt::print("\n{}\n", error.what());
  }

  // A parameter changed too early
  try {
    const Tensor early = sum(w * w);
    w.value().fill(1);
    early.backward();
  } catch (const std::invalid_argument& error) {
    fmt::print("\n{}\n", error.what());
  }
}
