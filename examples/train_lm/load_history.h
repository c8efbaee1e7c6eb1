// SPDX-License-Identifier: Apache-2.0
// How many assignments each expert got over the course of a run.
#pragma once
#include <string>
#include <vector>

#include "nn/train/checkpoint.h"

namespace moxie::train_lm {

// Assignments per MoE layer and expert.
using Loads = std::vector<std::vector<int64_t>>;

// Adds up the loads of `interval` steps into a row. A long run doesn't take more room than a short one: when there are
// 512 rows, neighbours are joined and the interval doubles. What it holds depends on the steps alone.
class LoadHistory final {
 public:
  static constexpr int64_t most_rows = 512;

  void add(const Loads& loads);

  int64_t interval() const { return interval_; }
  // Whole rows; row i ends with step (i + 1) * interval().
  const std::vector<Loads>& rows() const { return rows_; }

  // As text: "step,layer0_expert0,..", one line per row.
  std::string csv() const;

  // Into a checkpoint and back.
  void store(train::Checkpoint& checkpoint) const;
  static LoadHistory restore(const train::Checkpoint& checkpoint);

 private:
  int64_t interval_ = 1;
  int64_t pending_steps_ = 0;
  Loads pending_;
  std::vector<Loads> rows_;
};

}  // namespace moxie::train_lm
