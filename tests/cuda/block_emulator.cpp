// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/block_emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "core/check.h"
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {
namespace {

constexpr size_t stack_bytes = 256 * 1024;
// Shared addresses begin here, so that one that nobody computed is outside.
constexpr uint32_t first_address = 1024;
constexpr size_t alignment = 1024;

// Work that runs beside a thread: groups of it, oldest first, and what is not in a group yet.
class Pending {
 public:
  void add(std::function<void()> work) { open_.push_back(std::move(work)); }
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  void wait(int pending) {
    for (; static_cast<int>(groups_.size()) > pending; groups_.pop_front()) {
      for (const auto& work : groups_.front()) work();
    }
  }
  bool empty() const { return open_.empty() && groups_.empty(); }

 private:
  std::deque<std::vector<std::function<void()>>> groups_;
  std::vector<std::function<void()>> open_;
};

struct Thread {
  enum class Wait : uint8_t { nothing, warp, block, done };
  ucontext_t context{};
  std::unique_ptr<unsigned char[]> stack;
  Wait wait = Wait::nothing;
  emulated::Position position;
  emulated::Call call{};
  size_t exchanges = 0;
  Pending copies, products;
};

struct Warp {
  // Two rounds: a thread that runs ahead gives its next value while others still read the last.
  std::array<std::array<unsigned char, warp_size * emulated::Exchanged::most>, 2> values;
};

class Block {
 public:
  Block(const Emulation& emulation, const std::function<void()>& kernel) : emulation_(emulation), kernel_(kernel) {
    check(emulation.threads > 0 && emulation.threads % warp_size == 0,
          "emulate: threads must be a multiple of 32, got {}", emulation.threads);
    memory_.resize(emulation.shared_bytes + alignment);
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    shared_ = memory_.data() + (alignment - address % alignment) % alignment;
    threads_.resize(static_cast<size_t>(emulation.threads));
    warps_.resize(threads_.size() / warp_size);
    order_.resize(threads_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    if (emulation.order == Emulation::Order::backward) std::reverse(order_.begin(), order_.end());
    if (emulation.order == Emulation::Order::shuffled) std::shuffle(order_.begin(), order_.end(), std::mt19937(1));
  }

  void run(int block, int block_y) {
    std::fill(memory_.begin(), memory_.end(), static_cast<unsigned char>(0xFF));
    for (size_t i = 0; i < threads_.size(); ++i) start(i, block, block_y);
    while (true) {
      bool ran = false, all_done = true;
      for (const size_t i : order_) {
        current_ = &threads_[i];
        if (current_->wait == Thread::Wait::nothing) {
          swapcontext(&scheduler_, &current_->context);
          ran = true;
          if (error_) std::rethrow_exception(error_);
        }
        all_done = all_done && current_->wait == Thread::Wait::done;
      }
      if (all_done) return;
      check_internal(ran, "emulate: all threads of block {} wait for each other, {}", block, describe_waits());
    }
  }

  Thread& current() const { return *current_; }
  unsigned char* shared() const { return shared_; }

  void sync() { wait(Thread::Wait::block); }

  emulated::Exchanged exchange(emulated::Call call, const void* value, size_t size) {
    check_internal(size <= emulated::Exchanged::most, "emulate: a thread may exchange {} bytes, not {}",
                   emulated::Exchanged::most, size);
    Thread& me = *current_;
    Warp& warp = warps_[static_cast<size_t>(me.position.thread / warp_size)];
    auto& values = warp.values[me.exchanges % 2];
    const auto lane = static_cast<size_t>(me.position.thread % warp_size);
    if (size > 0) std::memcpy(values.data() + lane * emulated::Exchanged::most, value, size);
    me.call = call;
    ++me.exchanges;
    wait(Thread::Wait::warp);
    return {values.data()};
  }

  unsigned char* at(uint32_t address, size_t size) const {
    check_internal(address >= first_address && address - first_address + size <= emulation_.shared_bytes,
                   "emulate: {} bytes at shared address {} are outside of the {} bytes there are", size,
                   static_cast<int64_t>(address) - first_address, emulation_.shared_bytes);
    check_internal(address % size == 0, "emulate: shared address {} is not aligned to {}", address - first_address,
                   size);
    return shared_ + (address - first_address);
  }

  void copy(uint32_t address, const void* from, size_t size) {
    check_internal(reinterpret_cast<uintptr_t>(from) % size == 0, "emulate: a copy's source is not aligned to {}",
                   size);
    unsigned char* to = at(address, size);
    const auto copy = [to, from, size] {
      if (from == nullptr)
        std::memset(to, 0, size);
      else
        std::memcpy(to, from, size);
    };
    if (!emulation_.late) return copy();
    std::memset(to, 0xFF, size);
    current_->copies.add(copy);
  }

  void multiply(const std::function<void()>& work) {
    if (!emulation_.late) return work();
    current_->products.add(work);
  }

  static inline thread_local Block* running = nullptr;

 private:
  void start(size_t index, int block, int block_y) {
    Thread& thread = threads_[index];
    std::unique_ptr<unsigned char[]> stack = std::move(thread.stack);
    thread = Thread{};
    thread.stack = stack ? std::move(stack) : std::make_unique_for_overwrite<unsigned char[]>(stack_bytes);
    thread.position = {static_cast<int>(index), emulation_.threads, block, emulation_.blocks, block_y};
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = stack_bytes;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, &Block::enter, 0);
  }

  static void enter() {
    Block& block = *running;
    try {
      block.kernel_();
      check_internal(block.current_->copies.empty() && block.current_->products.empty(),
                     "emulate: thread {} ends with work that it did not wait for", block.current_->position.thread);
    } catch (...) {
      block.error_ = std::current_exception();
    }
    block.current_->wait = Thread::Wait::done;
    swapcontext(&block.current_->context, &block.scheduler_);
  }

  // Waits until the rest of the warp or of the block waits in the same way; the last one to come lets all go on.
  void wait(Thread::Wait what) {
    Thread& me = *current_;
    me.wait = what;
    size_t first = 0, count = threads_.size();
    if (what == Thread::Wait::warp) {
      count = warp_size;
      first = static_cast<size_t>(me.position.thread) / count * count;
    }
    for (size_t i = first; i < first + count; ++i) {
      if (threads_[i].wait != what) {
        swapcontext(&me.context, &scheduler_);
        return;
      }
    }
    for (size_t i = first; i < first + count; ++i) {
      check_internal(what == Thread::Wait::block || threads_[i].call == me.call,
                     "emulate: threads {} and {} of a warp call different functions", i, me.position.thread);
      threads_[i].wait = Thread::Wait::nothing;
    }
    swapcontext(&me.context, &scheduler_);
  }

  std::string describe_waits() const {
    int64_t warp = 0, block = 0, done = 0;
    for (const Thread& thread : threads_) {
      warp += thread.wait == Thread::Wait::warp;
      block += thread.wait == Thread::Wait::block;
      done += thread.wait == Thread::Wait::done;
    }
    return fmt::format("{} for their warp, {} for the block, {} have ended", warp, block, done);
  }

  const Emulation& emulation_;
  const std::function<void()>& kernel_;
  std::vector<unsigned char> memory_;
  unsigned char* shared_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<size_t> order_;
  ucontext_t scheduler_{};
  Thread* current_ = nullptr;
  std::exception_ptr error_;
};

Block& running() {
  check_internal(Block::running != nullptr, "emulate: a kernel's function was called outside of emulate()");
  return *Block::running;
}

float bf16_at(uint32_t word, int half) { return half == 0 ? low_bf16(word) : high_bf16(word); }

}  // namespace

namespace emulated {

const Position& position() { return running().current().position; }
void sync_threads() { running().sync(); }
Exchanged exchange(Call call, const void* value, size_t size) { return running().exchange(call, value, size); }
unsigned char* shared_memory() { return running().shared(); }
uint32_t shared_address(const void* pointer) {
  return first_address + static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - running().shared());
}
void* shared_pointer(uint32_t address, size_t size) { return running().at(address, size); }
void copy_async(uint32_t shared, const void* global, size_t size) { running().copy(shared, global, size); }
void copy_async_commit() { running().current().copies.commit(); }
void copy_async_wait(int pending) { running().current().copies.wait(pending); }
void commit_warpgroup() { running().current().products.commit(); }
void wait_warpgroup(int pending) { running().current().products.wait(pending); }

void load_matrices(uint32_t (&matrix)[4], uint32_t address, bool transposed) {
  const Exchanged rows = exchange(Call::load_matrices, &address, sizeof(address));
  const int group = lane_index() / 4, pair = lane_index() % 4 * 2;
  const auto element = [&](int index, int row, int col) {
    uint16_t bits;
    std::memcpy(&bits, running().at(rows.of<uint32_t>(8 * index + row), 16) + 2 * col, sizeof(bits));
    return static_cast<uint32_t>(bits);
  };
  for (int i = 0; i < 4; ++i) {
    matrix[i] = transposed ? element(i, pair, group) | element(i, pair + 1, group) << 16
                           : element(i, group, pair) | element(i, group, pair + 1) << 16;
  }
}

void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Operands {
    uint32_t a[4], b[2];
  };
  const Operands mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const Exchanged all = exchange(Call::multiply_add, &mine, sizeof(mine));
  const int group = lane_index() / 4, pair = lane_index() % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    const int row = group + i / 2 * 8, col = pair + i % 2;
    for (int k = 0; k < 16; ++k) {
      const Operands from_a = all.of<Operands>(row % 8 * 4 + k % 8 / 2);
      const Operands from_b = all.of<Operands>(col * 4 + k % 8 / 2);
      c[i] += bf16_at(from_a.a[row / 8 + k / 8 * 2], k % 2) * bf16_at(from_b.b[k / 8], k % 2);
    }
  }
}

namespace {

// An operand as its description says: extent along rows or columns, 16 products deep.
class Operand {
 public:
  Operand(uint64_t description, bool along_extent)
      : start_(field(description, 0)),
        panels_(field(description, 16)),
        groups_(field(description, 32)),
        along_extent_(along_extent) {
    check_internal(description >> 62 == 1, "emulate: only operands with a swizzle of 128 bytes, got {}",
                   description >> 62);
  }
  float operator()(int extent, int product) const {
    const auto i = static_cast<uint32_t>(extent), p = static_cast<uint32_t>(product);
    const uint32_t plain = along_extent_ ? start_ + i / 64 * panels_ + i % 64 * 2 + p % 8 * 128 + p / 8 * groups_
                                         : start_ + i / 8 * groups_ + i % 8 * 128 + p * 2;
    bf16 value;
    std::memcpy(&value, running().at(plain ^ (plain >> 7 & 7) << 4, sizeof(value)), sizeof(value));
    return value;
  }

 private:
  static uint32_t field(uint64_t description, int bit) {
    return static_cast<uint32_t>(description >> bit & 0x3FFF) << 4;
  }
  uint32_t start_, panels_, groups_;
  bool along_extent_;
};

}  // namespace

void multiply_warpgroup(float* sums, int cols8, uint64_t a, bool a_along_extent, uint64_t b, bool b_along_extent) {
  const Operand operand_a(a, a_along_extent), operand_b(b, b_along_extent);
  const int row = warp_index() % 4 * 16 + lane_index() / 4, pair = lane_index() % 4 * 2;
  running().multiply([=] {
    for (int half = 0; half < 2; ++half) {
      float products[16];
      for (int p = 0; p < 16; ++p) products[p] = operand_a(row + 8 * half, p);
      for (int j = 0; j < cols8; ++j) {
        for (int e = 0; e < 2; ++e) {
          float& sum = sums[4 * j + 2 * half + e];
          for (int p = 0; p < 16; ++p) sum += products[p] * operand_b(8 * j + pair + e, p);
        }
      }
    }
  });
}

void multiply_warpgroup_registers(float* sums, int cols8, const uint32_t (&a)[4], uint64_t b, bool b_along_extent) {
  const Exchanged all = exchange(Call::multiply_add, a, sizeof(a));
  const Operand operand_b(b, b_along_extent);
  const int group = lane_index() / 4, pair = lane_index() % 4 * 2;
  struct Row {
    float product[16];
  } rows[2];
  for (int half = 0; half < 2; ++half) {
    for (int p = 0; p < 16; ++p) {
      const auto words = all.of<std::array<uint32_t, 4>>(group * 4 + p % 8 / 2);
      rows[half].product[p] = bf16_at(words[static_cast<size_t>(half + p / 8 * 2)], p % 2);
    }
  }
  running().multiply([=] {
    for (int half = 0; half < 2; ++half) {
      for (int j = 0; j < cols8; ++j) {
        for (int e = 0; e < 2; ++e) {
          float& sum = sums[4 * j + 2 * half + e];
          for (int p = 0; p < 16; ++p) sum += rows[half].product[p] * operand_b(8 * j + pair + e, p);
        }
      }
    }
  });
}

}  // namespace emulated

void emulate(const Emulation& emulation, const std::function<void()>& kernel) {
  Block block(emulation, kernel);
  Block* const before = Block::running;
  Block::running = &block;
  try {
    for (int y = 0; y < emulation.blocks_y; ++y) {
      for (int x = 0; x < emulation.blocks; ++x) block.run(x, y);
    }
  } catch (...) {
    Block::running = before;
    throw;
  }
  Block::running = before;
}

void emulate_all(Emulation emulation, const std::function<void()>& kernel, const std::function<void()>& verify) {
  using Order = Emulation::Order;
  for (const Order order : {Order::forward, Order::backward, Order::shuffled}) {
    for (const bool late : {true, false}) {
      emulation.order = order;
      emulation.late = late;
      emulate(emulation, kernel);
      verify();
    }
  }
}

}  // namespace moxie::cuda
