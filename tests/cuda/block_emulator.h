// SPDX-License-Identifier: Apache-2.0
// Runs the threads of CUDA blocks on the CPU, as fibers, through kernels written with cuda/intrinsics.cuh.
//
// Every thread runs until it must wait for others; then the next one runs. What a GPU leaves open is an option, so that
// a test that passes under all of them shows a missing sync or wait: the order in which threads run, and when a copy or
// a matrix instruction that runs beside the threads takes effect, at once or as late as its wait allows. Shared memory
// is full of NaN at first, and so is the target of a copy until it arrives. Addresses outside of shared memory,
// addresses that are not aligned, threads of a warp that call different functions, and threads that wait for ever are
// errors (std::logic_error).
#pragma once
#include <cstddef>
#include <functional>
#include <vector>

namespace moxie::cuda {

struct Emulation {
  enum class Order { forward, backward, shuffled };
  int blocks = 1, blocks_y = 1, threads = 32;
  size_t shared_bytes = 0;
  Order order = Order::forward;
  bool late = true;
};

// Runs kernel() as every thread of every block, one block after the other.
void emulate(const Emulation& emulation, const std::function<void()>& kernel);

// The same under every order, with late work and without: six ways. With a sanitizer, which is slow and doesn't need
// an unlucky order to see a missing sync, two of them, or one with ThreadSanitizer.
std::vector<Emulation> every_way(Emulation emulation);

// emulate() in every way; `verify` is called after each.
void emulate_all(Emulation emulation, const std::function<void()>& kernel, const std::function<void()>& verify);

}  // namespace moxie::cuda
