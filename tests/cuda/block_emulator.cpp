// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/block_emulator.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/check.h"
#include "cuda/intrinsics.cuh"
#include "tests/cuda/fiber.h"

namespace moxie::cuda {
namespace {

using namespace moxie::testing;

// Shared addresses begin here, so that one that nobody computed is outside.
constexpr uint32_t first_address = 1024;

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
  Fiber fiber;
  Wait wait = Wait::nothing;
  emulated::Position position;
  emulated::Call call{};
  size_t exchanges = 0, syncs = 0, warp_syncs = 0;
  Pending copies, products;
};

struct Warp {
  std::array<char, 2> synced;
  // Two rounds: a thread that runs ahead gives its next value while others still read the last.
  std::array<std::array<std::array<unsigned char, emulated::Exchanged::most>, warp_size>, 2> values;
};

class Block final {
 public:
  Block(const Emulation& emulation, const std::function<void()>& kernel)
      : emulation_(emulation), kernel_(kernel), threads_(static_cast<size_t>(std::max(emulation.threads, 0))) {
    check(emulation.threads > 0 && emulation.threads % warp_size == 0,
          "emulate: threads must be a multiple of 32, got {}", emulation.threads);
    warps_.resize(threads_.size() / warp_size);
    order_.resize(threads_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    if (emulation.order == Emulation::Order::backward) std::reverse(order_.begin(), order_.end());
    if (emulation.order == Emulation::Order::shuffled) std::shuffle(order_.begin(), order_.end(), std::mt19937(1));
  }

  ~Block() { acquire(&ended_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void run(int block, int block_y) {
    renew(shared_, emulation_.shared_bytes);
    std::memset(shared_.get(), 0xFF, emulation_.shared_bytes);
    for (size_t i = 0; i < threads_.size(); ++i) start(i, block, block_y);
    while (true) {
      bool ran = false, all_done = true;
      for (const size_t i : order_) {
        current_ = &threads_[i];
        if (current_->wait == Thread::Wait::nothing) {
          current_->fiber.resume();
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
  unsigned char* shared() const { return shared_.get(); }

  void sync() { wait(Thread::Wait::block, &synced_[current_->syncs++ % 2]); }

  emulated::Exchanged exchange(emulated::Call call, const void* value, size_t size) {
    check_internal(size <= emulated::Exchanged::most, "emulate: a thread may exchange {} bytes, not {}",
                   emulated::Exchanged::most, size);
    Thread& me = *current_;
    Warp& warp = warps_[static_cast<size_t>(me.position.thread / warp_size)];
    auto& values = warp.values[me.exchanges % 2];
    const auto lane = static_cast<size_t>(me.position.thread % warp_size);
    std::array<unsigned char, emulated::Exchanged::most> mine{};
    if (size > 0) std::memcpy(mine.data(), value, size);
    values[lane] = mine;  // not by memcpy, which ThreadSanitizer sees, as if the warp exchanged this through memory
    me.call = call;
    ++me.exchanges;
    // As on a GPU, of all the functions of a warp only sync_warp() orders memory.
    wait(Thread::Wait::warp, call == emulated::Call::sync_warp ? &warp.synced[me.warp_syncs++ % 2] : nullptr);
    return {values[0].data()};
  }

  unsigned char* at(uint32_t address, size_t size) const {
    check_internal(address >= first_address && address - first_address + size <= emulation_.shared_bytes,
                   "emulate: {} bytes at shared address {} are outside of the {} bytes there are", size,
                   static_cast<int64_t>(address) - first_address, emulation_.shared_bytes);
    check_internal(address % size == 0, "emulate: shared address {} is not aligned to {}", address - first_address,
                   size);
    return shared_.get() + (address - first_address);
  }

  void copy(uint32_t address, const void* from, size_t size) {
    check_internal(reinterpret_cast<uintptr_t>(from) % size == 0, "emulate: a copy's source is not aligned to {}",
                   size);
    unsigned char* to = at(address, size);
    const auto copy = [to, from, size] {
      note_write(to, size);
      if (from != nullptr) note_read(from, size);
      if (from == nullptr)
        std::memset(to, 0, size);
      else
        std::memcpy(to, from, size);
    };
    if (!emulation_.late) return copy();
    note_write(to, size);
    std::memset(to, 0xFF, size);
    current_->copies.add(copy);
  }

  void multiply(const std::function<void()>& work) {
    if (!emulation_.late) return work();
    current_->products.add(work);
  }

  static inline constinit thread_local Block* running = nullptr;

 private:
  void start(size_t index, int block, int block_y) {
    Thread& thread = threads_[index];
    thread.wait = Thread::Wait::nothing;
    thread.exchanges = thread.syncs = thread.warp_syncs = 0;
    thread.position = {static_cast<int>(index), emulation_.threads, block, emulation_.blocks, block_y};
    thread.fiber.start(&Block::enter);
  }

  static void enter() {
    Block& block = *running;
    block.current_->fiber.entered();
    try {
      block.kernel_();
      check_internal(block.current_->copies.empty() && block.current_->products.empty(),
                     "emulate: thread {} ends with work that it did not wait for", block.current_->position.thread);
    } catch (...) {
      block.error_ = std::current_exception();
    }
    block.current_->wait = Thread::Wait::done;
    release(&block.ended_);
    block.current_->fiber.finish();
  }

  // Waits until the rest of the warp or of the block waits in the same way; the last one to come lets all go on. What
  // each did before is done for all after, where there is a place for them to meet. The place of every other wait is
  // another one: a thread that runs ahead is in the next wait before others have left this one.
  void wait(Thread::Wait what, char* meet) {
    Thread& me = *current_;
    me.wait = what;
    size_t first = 0, count = threads_.size();
    if (what == Thread::Wait::warp) {
      count = warp_size;
      first = static_cast<size_t>(me.position.thread) / count * count;
    }
    if (meet != nullptr) release(meet);
    const auto waits = [&](const Thread& thread) { return thread.wait == what; };
    const std::span<Thread> others(&threads_[first], count);
    if (std::all_of(others.begin(), others.end(), waits)) {
      for (Thread& thread : others) {
        check_internal(what == Thread::Wait::block || thread.call == me.call,
                       "emulate: threads {} and {} of a warp call different functions", thread.position.thread,
                       me.position.thread);
        thread.wait = Thread::Wait::nothing;
      }
    }
    me.fiber.give_way();
    if (meet != nullptr) acquire(meet);
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
  Bytes shared_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<size_t> order_;
  std::array<char, 2> synced_;
  char ended_ = 0;
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
  note_read(running().at(address, 16), 16);
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
    const unsigned char* const from = running().at(plain ^ (plain >> 7 & 7) << 4, sizeof(value));
    note_read(from, sizeof(value));
    std::memcpy(&value, from, sizeof(value));
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

}  // namespace moxie::cuda
