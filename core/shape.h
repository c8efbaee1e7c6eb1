// SPDX-License-Identifier: Apache-2.0
// The sizes of an array's dimensions, outermost first.
#pragma once
#include <fmt/core.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace moxie {

class Shape final {
 public:
  static constexpr int64_t max_rank = 8;

  Shape() = default;
  // Throws std::invalid_argument for a negative size, more than max_rank dimensions, or more than 2^62 elements.
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span<const int64_t>(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes);

  int64_t rank() const { return rank_; }
  // Number of elements; 1 for a scalar.
  int64_t numel() const;
  // Size of dimension `dim`; negative counts from the back.
  int64_t operator[](int64_t dim) const { return sizes_[static_cast<size_t>(dim < 0 ? dim + rank_ : dim)]; }
  // The last size, 1 for a scalar: how long a row is.
  int64_t cols() const { return rank_ == 0 ? 1 : sizes_[static_cast<size_t>(rank_ - 1)]; }
  // The product of all sizes but the last: how many rows there are.
  int64_t rows() const;
  // Product of sizes [first, last).
  int64_t product(int64_t first, int64_t last) const;

  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + rank_; }
  std::span<const int64_t> sizes() const { return {begin(), end()}; }
  bool operator==(const Shape& other) const;

  // A copy with dimension `dim` set to `size`, removed, or inserted before `dim`.
  Shape with(int64_t dim, int64_t size) const;
  Shape without(int64_t dim) const;
  Shape inserted(int64_t dim, int64_t size) const;
  std::string to_string() const;

 private:
  std::array<int64_t, max_rank> sizes_{};
  int64_t rank_ = 0;
};

// Turns a dimension that may count from the back into [0, rank); `op` begins the error message.
int64_t normalize_dim(const char* op, int64_t dim, const Shape& shape);

}  // namespace moxie

template <> struct fmt::formatter<moxie::Shape> : fmt::formatter<std::string> {
  auto format(const moxie::Shape& shape, fmt::format_context& context) const -> decltype(context.out());
};
