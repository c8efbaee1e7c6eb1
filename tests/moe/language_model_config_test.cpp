// SPDX-License-Identifier: Apache-2.0
// moe/language_model_config.h and moe/sample_window.h: a model that is stored comes back; long texts.
#include "moe/language_model_config.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "moe/sample_window.h"
#include "tests/temporary_folder.h"

using namespace moxie;

namespace {

moe::LanguageModelOptions small_options() {
  moe::LanguageModelOptions options;
  options.vocabulary = 16, options.layers = 2, options.width = 8, options.heads = 2, options.dense_layers = 1;
  options.moe = {.router = {.kind = moe::RouterKind::cosine, .experts = 3, .top_k = 2}, .hidden = 4};
  return options;
}

std::vector<float> logits(const moe::LanguageModel& model) {
  return model(Array::from(std::vector<int32_t>{1, 5, 2}, {1, 3}), {}).to_vector<float>();
}

std::vector<int32_t> window(const moe::LanguageModel& model, std::vector<int32_t> prompt, int64_t tokens,
                            int64_t context) {
  return moe::sample_window(model, prompt, {.tokens = tokens, .seed = 3}, context);
}

}  // namespace

TEST_CASE("every option of a language model is stored") {
  // Each leaf of the JSON is changed once: it must come back changed, or a field has no setting of its own.
  const auto text = moe::to_json(moe::LanguageModelOptions{});
  const auto flat = nlohmann::ordered_json::parse(text).flatten();
  const std::map<std::string, std::string> other_names{{"/qk_norm", "whole"},
                                                       {"/balance", "hf"},
                                                       {"/moe/activation", "relu"},
                                                       {"/moe/router/kind", "linear"},
                                                       {"/moe/router/weighting", "before_top_k"},
                                                       {"/moe/router/noise/kind", "gumbel"}};
  CHECK(flat.size() == 38);
  for (const auto& [path, value] : flat.items()) {
    CAPTURE(path);
    auto changed = flat;
    if (value.is_boolean())
      changed[path] = !value.get<bool>();
    else if (value.is_string())
      changed[path] = other_names.at(path);
    else if (value.is_number_integer())
      changed[path] = value.get<int64_t>() + 1;
    else
      changed[path] = value.get<double>() + 0.5;
    const std::string wanted = changed.unflatten().dump(2);
    CHECK(moe::to_json(moe::language_model_options_from_json(wanted)) == wanted);
  }
}

TEST_CASE("a stored language model comes back bit by bit") {
  const moe::LanguageModel model(small_options(), 7);
  const test::TemporaryFolder folder;
  train::Checkpoint checkpoint;
  moe::store(model, checkpoint);
  train::save_checkpoint(folder / "a", checkpoint);
  const moe::LanguageModel restored = moe::restore_language_model(train::load_checkpoint(folder / "a"));
  CHECK(restored.options.dense_layers == 1);
  CHECK(logits(restored) == logits(model));

  CHECK_THROWS_WITH_AS(moe::restore_language_model({}), "checkpoint: the metadata has no 'model'",
                       std::invalid_argument);
  checkpoint.metadata["model"] = moe::to_json(moe::LanguageModelOptions{});
  CHECK_THROWS_AS(moe::restore_language_model(checkpoint), std::invalid_argument);
}

TEST_CASE("sample_window: within the context it is sample") {
  const moe::LanguageModel model(small_options(), 7);
  const std::vector<int32_t> prompt{1, 2};
  CHECK(window(model, prompt, 6, 8) == moe::sample(model, prompt, {.tokens = 6, .seed = 3}));
}

TEST_CASE("sample_window: the model never sees more than the context") {
  const moe::LanguageModel model(small_options(), 7);
  for (const int64_t context : {1, 2, 5}) {
    CAPTURE(context);
    const std::vector<int32_t> text = window(model, {1, 2, 3}, 40, context);
    CHECK(text.size() == 40);
    CHECK(text == window(model, {1, 2, 3}, 40, context));
    // What was cut off makes no difference.
    if (context < 3) CHECK(text == window(model, {9, 2, 3}, 40, context));
  }
  CHECK(window(model, {1}, 0, 4).empty());
  std::vector<int32_t> seen;
  const auto stop = [&](int32_t token) {
    seen.push_back(token);
    return seen.size() < 9;
  };
  CHECK(moe::sample_window(model, std::vector<int32_t>{1}, {.tokens = 40, .seed = 3}, 4, stop) == seen);
  CHECK(seen.size() == 9);
  CHECK_THROWS_WITH_AS(window(model, {1}, 3, 0), "sample: context must be at least 1, got 0", std::invalid_argument);
  CHECK_THROWS_AS(window(model, {}, 3, 4), std::invalid_argument);
}
