// SPDX-License-Identifier: Apache-2.0
// The pictures of a run.
#pragma once
#include <string>
#include <vector>

#include "examples/train_lm/evaluation.h"
#include "nn/train/metrics.h"

namespace moxie::train_lm {

struct Picture {
  std::string path;
  std::string subject;
};

// Draws what there is to draw (without MoE layers only the losses) into the run's folder.
std::vector<Picture> draw_pictures(const Run& run, const Evaluation& evaluation, const train::Metrics& metrics,
                                   const Files& files);

}  // namespace moxie::train_lm
