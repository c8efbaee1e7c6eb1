// SPDX-License-Identifier: Apache-2.0
// The schedules that a GPU may choose from.
#include <utility>

#include "tests/cuda/block_emulator.h"

namespace moxie::cuda {

std::vector<Emulation> every_way(Emulation emulation) {
  using Order = Emulation::Order;
#ifdef __SANITIZE_THREAD__
  constexpr std::pair<Order, bool> ways[] = {{Order::shuffled, true}};
#elif defined(__SANITIZE_ADDRESS__)
  constexpr std::pair<Order, bool> ways[] = {{Order::forward, true}, {Order::shuffled, false}};
#else
  constexpr std::pair<Order, bool> ways[] = {{Order::forward, true},   {Order::backward, true},
                                             {Order::shuffled, true},  {Order::forward, false},
                                             {Order::backward, false}, {Order::shuffled, false}};
#endif
  std::vector<Emulation> all;
  for (const auto& [order, late] : ways) {
    emulation.order = order;
    emulation.late = late;
    all.push_back(emulation);
  }
  return all;
}

void emulate_all(Emulation emulation, const std::function<void()>& kernel, const std::function<void()>& verify) {
  for (const Emulation& way : every_way(emulation)) {
    emulate(way, kernel);
    verify();
  }
}

}  // namespace moxie::cuda
