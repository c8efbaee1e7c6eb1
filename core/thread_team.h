// SPDX-License-Identifier: Apache-2.0
// ThreadTeam: a team of real CPU threads, for tests. Like a warp it deals index i to member i % members, and like a
// warp only sync() orders memory: the reductions exchange their values through relaxed atomics alone. So
// ThreadSanitizer reports a kernel that lacks a sync(), even next to a reduction, on a machine without a GPU.
#pragma once
#include <atomic>
#include <barrier>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <type_traits>
#include <vector>

#include "core/check.h"

namespace moxie {

// What the members of one ThreadTeam share: the barrier of sync(), and a board on which every member puts one number.
class ThreadTeamBoard final {
 public:
  explicit ThreadTeamBoard(int members)
      : members_(members), barrier_(members), words_(static_cast<size_t>(members) * rounds * words) {}

  int members() const { return members_; }
  void sync() { barrier_.arrive_and_wait(); }

  // Puts `value` on the board as this member's number of exchange number `round`, which counts from 1.
  void put(int member, uint32_t round, uint64_t value) {
    word(member, round, 0).store(uint64_t{round} << 32 | (value & 0xFFFFFFFFu), std::memory_order_relaxed);
    word(member, round, 1).store(uint64_t{round} << 32 | value >> 32, std::memory_order_relaxed);
  }
  // Waits until `member` has put its number of exchange `round`, and returns it.
  uint64_t get(int member, uint32_t round) {
    const uint64_t low = wait_for(word(member, round, 0), round);
    return low | wait_for(word(member, round, 1), round) << 32;
  }

 private:
  // Two, since a member may put its next number while others still read; not three, since it then reads theirs.
  static constexpr size_t rounds = 2;
  // Each word carries half a number and the round it belongs to, so that a number needs no ordering to be read whole.
  static constexpr size_t words = 2;

  std::atomic<uint64_t>& word(int member, uint32_t round, size_t half) {
    return words_[(static_cast<size_t>(member) * rounds + round % rounds) * words + half];
  }
  static uint64_t wait_for(const std::atomic<uint64_t>& word, uint32_t round) {
    uint64_t seen = word.load(std::memory_order_relaxed);
    while (seen >> 32 != round) {
      std::this_thread::yield();
      seen = word.load(std::memory_order_relaxed);
    }
    return seen & 0xFFFFFFFFu;
  }

  int members_;
  std::barrier<> barrier_;
  std::vector<std::atomic<uint64_t>> words_;
};

// One member's view of its team; the verbs are those of core/team.h.
class ThreadTeam final {
 public:
  // `exchanges` counts the reductions that this member has taken part in.
  ThreadTeam(ThreadTeamBoard& board, int member, uint32_t& exchanges)
      : board_(&board), exchanges_(&exchanges), member_(member), members_(board.members()) {}

  template <class F> void each(int64_t n, F f) const {
    for (int64_t i = member_; i < n; i += members_) f(i);
  }

  template <class F, class G> void each(int64_t n, F f, G g) const {
    each(n, [&](int64_t i) { g(i, f(i)); });
  }

  template <class F> auto sum(int64_t n, F f) const {
    decltype(f(int64_t{0})) part = 0;
    each(n, [&](int64_t i) { part += f(i); });
    decltype(part) total = 0;
    exchange(part, [&](decltype(part) other) { total += other; });
    return total;
  }

  template <class F> auto max(int64_t n, F f) const {
    using Value = decltype(f(int64_t{0}));
    Value part = -std::numeric_limits<Value>::infinity();
    each(n, [&](int64_t i) {
      const Value value = f(i);
      part = value > part ? value : part;
    });
    Value top = part;
    exchange(part, [&](Value other) { top = other > top ? other : top; });
    return top;
  }

  template <class F> int64_t argmax(int64_t n, F f) const {
    using Value = decltype(f(int64_t{0}));
    Best<Value> mine;
    each(n, [&](int64_t i) { mine.offer(i, f(i)); });
    // an exchange carries one number: first the indices, then the values
    std::vector<int64_t> indices;
    exchange(mine.index, [&](int64_t index) { indices.push_back(index); });
    Best<Value> best;
    size_t next = 0;
    exchange(mine.value, [&](Value value) {
      const int64_t index = indices[next++];
      if (index >= 0) best.offer(index, value);
    });
    return best.index;
  }

  template <class F> void once(F f) const {
    if (member_ == 0) f();
  }

  void sync() const { board_->sync(); }

 private:
  template <class Value> struct Best {
    int64_t index = -1;
    Value value = 0;

    void offer(int64_t other_index, Value other) {
      const bool nan = value != value;
      const bool other_nan = other != other;
      const bool equal = other == value || (nan && other_nan);
      const bool better = other > value || (nan && !other_nan) || (equal && other_index < index);
      if (index >= 0 && !better) return;
      index = other_index;
      value = other;
    }
  };

  // Calls f with the number of every member, in the order of the members.
  template <class Value, class F> void exchange(Value value, F f) const {
    static_assert(std::is_trivially_copyable_v<Value> && sizeof(Value) <= sizeof(uint64_t));
    const uint32_t round = ++*exchanges_;
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(Value));
    board_->put(member_, round, bits);
    for (int other = 0; other < members_; ++other) {
      const uint64_t other_bits = board_->get(other, round);
      Value other_value;
      std::memcpy(&other_value, &other_bits, sizeof(Value));
      f(other_value);
    }
  }

  ThreadTeamBoard* board_;
  uint32_t* exchanges_;
  int member_;
  int members_;
};

// Runs kernel(team, row) for every row in [0, rows), one after the other, by one team of `members` threads, of which
// this is the first. Rows are not separated by a sync either: two rows that touch the same place are a race, as on a
// GPU. The kernel must not throw.
template <class Kernel> void run_rows_thread_team(const Kernel& kernel, int64_t rows, int members) {
  check(members >= 1, "run_rows_thread_team: members must be at least 1, got {}", members);
  ThreadTeamBoard board(members);
  const auto run = [&](int member) {
    uint32_t exchanges = 0;
    const ThreadTeam team(board, member, exchanges);
    for (int64_t row = 0; row < rows; ++row) kernel(team, row);
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(members - 1));
  for (int member = 1; member < members; ++member) threads.emplace_back(run, member);
  run(0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace moxie
