// SPDX-License-Identifier: Apache-2.0
// What came of a run: the last validation, sample.txt, the pictures and summary.json.
#pragma once
#include "examples/train_lm/evaluation.h"

namespace moxie::train_lm {

// Evaluates, writes the files and prints what they say. Returns false where a signal came before it was through.
bool report(const Run& run, const Files& files);

// "1.2345 nats per byte (1.7810 bits), on 1616 of 1616 windows ..": a validation in words.
std::string words_of(const Evaluation& evaluation, const Configuration& configuration);

}  // namespace moxie::train_lm
