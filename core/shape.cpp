// SPDX-License-Identifier: Apache-2.0
#include "core/shape.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"

namespace moxie {

Shape::Shape(std::span<const int64_t> sizes) : rank_(static_cast<int64_t>(sizes.size())) {
  check(rank_ <= max_rank, "Shape: at most {} dimensions, got {}", max_rank, rank_);
  int64_t total = 1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    check(sizes[i] >= 0, "Shape: sizes must not be negative, got {} in dimension {}", sizes[i], i);
    sizes_[i] = sizes[i];
    check(sizes[i] == 0 || total <= (int64_t{1} << 62) / sizes[i], "Shape: too many elements, {}", to_string());
    total *= std::max<int64_t>(sizes[i], 1);
  }
}

int64_t Shape::numel() const { return product(0, rank_); }
int64_t Shape::rows() const { return rank_ == 0 ? 1 : product(0, rank_ - 1); }

int64_t Shape::product(int64_t first, int64_t last) const {
  int64_t total = 1;
  for (int64_t i = first; i < last; ++i) total *= sizes_[static_cast<size_t>(i)];
  return total;
}

bool Shape::operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

Shape Shape::with(int64_t dim, int64_t size) const {
  Shape result = *this;
  result.sizes_[static_cast<size_t>(dim < 0 ? dim + rank_ : dim)] = size;
  return result;
}

Shape Shape::without(int64_t dim) const {
  Shape result = *this;
  std::copy(result.sizes_.begin() + dim + 1, result.sizes_.end(), result.sizes_.begin() + dim);
  --result.rank_;
  return result;
}

Shape Shape::inserted(int64_t dim, int64_t size) const {
  check(rank_ < max_rank, "Shape: at most {} dimensions, {} has them already", max_rank, to_string());
  Shape result = *this;
  std::copy_backward(sizes_.begin() + dim, sizes_.begin() + rank_, result.sizes_.begin() + rank_ + 1);
  result.sizes_[static_cast<size_t>(dim)] = size;
  ++result.rank_;
  return result;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int64_t i = 0; i < rank_; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(sizes_[static_cast<size_t>(i)]);
  }
  return text + "]";
}

int64_t normalize_dim(const char* op, int64_t dim, const Shape& shape) {
  check(dim >= -shape.rank() && dim < shape.rank(), "{}: dimension {} is out of range for shape {}", op, dim, shape);
  return dim < 0 ? dim + shape.rank() : dim;
}

}  // namespace moxie

auto fmt::formatter<moxie::Shape>::format(const moxie::Shape& shape, fmt::format_context& context) const
    -> decltype(context.out()) {
  return fmt::formatter<std::string>::format(shape.to_string(), context);
}
