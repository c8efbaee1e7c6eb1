// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/load_history.h"

#include "core/check.h"

namespace moxie::train_lm {
namespace {

void accumulate(Loads& sum, const Loads& loads) {
  if (sum.empty()) sum = Loads(loads.size());
  for (size_t layer = 0; layer < loads.size(); ++layer) {
    sum[layer].resize(loads[layer].size());
    for (size_t expert = 0; expert < loads[layer].size(); ++expert) sum[layer][expert] += loads[layer][expert];
  }
}

// [rows, layers, experts], in f64 since it counts exactly up to 2^53
Array to_array(const std::vector<Loads>& rows) {
  const size_t layers = rows.empty() ? 0 : rows[0].size(), experts = layers == 0 ? 0 : rows[0][0].size();
  std::vector<double> values;
  for (const Loads& row : rows)
    for (const std::vector<int64_t>& layer : row)
      for (const int64_t count : layer) values.push_back(static_cast<double>(count));
  return Array::from(values,
                     {static_cast<int64_t>(rows.size()), static_cast<int64_t>(layers), static_cast<int64_t>(experts)});
}

std::vector<Loads> to_rows(const Array& array) {
  check(array.shape().rank() == 3 && array.dtype() == Dtype::f64,
        "load history: expected f64 [rows, layers, experts], got {} {}", name_of(array.dtype()), array.shape());
  const auto sizes = array.shape();
  const std::vector<double> values = array.to_vector<double>();
  auto next = values.begin();
  std::vector<Loads> rows(static_cast<size_t>(sizes[0]), Loads(static_cast<size_t>(sizes[1])));
  for (Loads& row : rows)
    for (std::vector<int64_t>& layer : row)
      for (int64_t expert = 0; expert < sizes[2]; ++expert) layer.push_back(static_cast<int64_t>(*next++));
  return rows;
}

const Array& named(const train::Checkpoint& checkpoint, const std::string& name) {
  for (const nn::NamedArray& candidate : checkpoint.arrays)
    if (candidate.name == name) return candidate.array;
  throw_invalid_argument(fmt::format("checkpoint: there is no tensor '{}'", name));
}

int64_t number(const train::Checkpoint& checkpoint, const std::string& key) {
  return std::stoll(train::metadata_value(checkpoint, key));
}

}  // namespace

void LoadHistory::add(const Loads& loads) {
  if (loads.empty()) return;
  accumulate(pending_, loads);
  if (++pending_steps_ < interval_) return;
  rows_.push_back(std::move(pending_));
  pending_.clear();
  pending_steps_ = 0;
  if (static_cast<int64_t>(rows_.size()) < most_rows) return;
  std::vector<Loads> joined(rows_.size() / 2);
  for (size_t i = 0; i < rows_.size(); ++i) accumulate(joined[i / 2], rows_[i]);
  rows_ = std::move(joined);
  interval_ *= 2;
}

std::string LoadHistory::csv() const {
  std::string text = "step";
  if (!rows_.empty())
    for (size_t layer = 0; layer < rows_[0].size(); ++layer)
      for (size_t expert = 0; expert < rows_[0][layer].size(); ++expert)
        text += fmt::format(",layer{}_expert{}", layer, expert);
  text += "\n";
  for (size_t i = 0; i < rows_.size(); ++i) {
    text += std::to_string(static_cast<int64_t>(i + 1) * interval_);
    for (const std::vector<int64_t>& layer : rows_[i])
      for (const int64_t count : layer) text += fmt::format(",{}", count);
    text += "\n";
  }
  return text;
}

void LoadHistory::store(train::Checkpoint& checkpoint) const {
  checkpoint.metadata["load_interval"] = std::to_string(interval_);
  checkpoint.metadata["load_pending_steps"] = std::to_string(pending_steps_);
  if (!rows_.empty()) checkpoint.arrays.push_back({"load.rows", to_array(rows_)});
  if (!pending_.empty()) checkpoint.arrays.push_back({"load.pending", to_array({pending_})});
}

LoadHistory LoadHistory::restore(const train::Checkpoint& checkpoint) {
  LoadHistory history;
  history.interval_ = number(checkpoint, "load_interval");
  history.pending_steps_ = number(checkpoint, "load_pending_steps");
  const std::vector<nn::NamedArray> arrays = train::without_prefix(checkpoint.arrays, "load");
  for (const nn::NamedArray& array : arrays)
    if (array.name == "rows") history.rows_ = to_rows(array.array);
  if (history.pending_steps_ > 0) history.pending_ = to_rows(named(checkpoint, "load.pending")).at(0);
  return history;
}

}  // namespace moxie::train_lm
