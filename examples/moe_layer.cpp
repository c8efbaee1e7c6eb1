// SPDX-License-Identifier: Apache-2.0
// Trains one MoE layer to imitate y = x |x|, element by element, and shows what its experts do:
//   moe_layer [--device cuda]
#include <fmt/format.h>

#include "moe/layer.h"
#include "moe/metrics.h"
#include "nn/optimizer.h"
#include "nn/train/device.h"

using namespace moxie;

int main(int argc, char** argv) {
  nn::Initializer init(/*seed=*/1, train::device_from_name(argc > 1 ? argv[argc - 1] : "cpu"));
  const moe::MoeOptions options{
      .router = {.kind = moe::RouterKind::perturbed_cosine, .experts = 8, .top_k = 2}, .hidden = 64, .erc = true};
  const moe::MoeLayer layer(/*width=*/32, options, init);
  nn::AdamW optimizer(nn::parameters(layer), {.lr = 3e-3, .weight_decay = 0.01});

  for (uint32_t step = 0; step < 300; ++step) {
    const Tensor x(init.normal({512, 32}, 1));  // 512 tokens
    const Tensor wanted = x * (relu(x) + relu(-x));
    const auto [y, routing, erc] = layer(x, {.training = true, .seed = 1, .step = step});
    const Tensor error = mean((y - wanted) * (y - wanted));
    const Tensor loss = error + 0.01 * moe::balance_loss(std::span(&routing, 1)) + erc;
    loss.backward();
    optimizer.step();
    if (step % 50 == 0 || step == 299)
      fmt::print("step {:3}  error {:.3f}  erc {:.3f}  load {}\n", step, error.item(), erc.item(),
                 fmt::join(routing.load(), " "));
  }
  fmt::print("ERC violations left: {}\n", moe::coupling_metrics(layer, 1).violations);
}
