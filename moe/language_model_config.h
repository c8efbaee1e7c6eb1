// SPDX-License-Identifier: Apache-2.0
// The options of a language model as text, and the model that a checkpoint holds.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "moe/language_model.h"
#include "nn/train/checkpoint.h"
#include "nn/train/settings.h"

namespace moxie::moe {

// Every option with its name, "layers", "moe.router.top_k", ..; the places are in `options`.
std::vector<train::Setting> settings(LanguageModelOptions& options);

// All options as a JSON object, and back: what the text leaves out keeps its default. Throws std::invalid_argument for
// text that is no JSON, unknown names and wrong types; impossible values are found when the model is built.
std::string to_json(const LanguageModelOptions& options);
LanguageModelOptions language_model_options_from_json(std::string_view text);

// Puts the model into a checkpoint: its parameters under "model.", its options into the metadata's "model".
void store(const LanguageModel& model, train::Checkpoint& checkpoint);
// The model of a checkpoint. Throws std::invalid_argument where it holds none, or one that doesn't fit its options.
LanguageModel restore_language_model(const train::Checkpoint& checkpoint);

}  // namespace moxie::moe
