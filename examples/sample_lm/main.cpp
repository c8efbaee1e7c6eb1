// SPDX-License-Identifier: Apache-2.0
// sample_lm: lets a model that train_lm trained write text.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/parallel.h"
#include "moe/language_model_config.h"
#include "moe/sample_window.h"
#include "nn/train/device.h"
#include "nn/train/tokenizer.h"

namespace {

using namespace moxie;

struct Arguments {
  std::string checkpoint, prompt = "\n", device = "cpu";
  int threads = 0;
  bool only_new = false;
  moe::SampleOptions sample{.tokens = 500, .temperature = 0.8};
};

constexpr int64_t unlimited = int64_t{1} << 40;

// How many tokens the model has learnt to look back on; no limit where the checkpoint doesn't say.
int64_t context_of(const train::Checkpoint& checkpoint) {
  const auto stored = checkpoint.metadata.find("configuration");
  if (stored == checkpoint.metadata.end()) return unlimited;
  const nlohmann::json configuration = nlohmann::json::parse(stored->second, nullptr, false);
  return configuration.is_object() ? configuration.value("context", unlimited) : unlimited;
}

void write(const Arguments& arguments) {
  const std::filesystem::path path = arguments.checkpoint;
  const std::string file =
      std::filesystem::is_directory(path) ? (path / "checkpoint.safetensors").string() : path.string();
  const train::Checkpoint checkpoint = train::load_checkpoint(file);
  moe::LanguageModel model = moe::restore_language_model(checkpoint);
  nn::to(model, train::device_from_name(arguments.device));
  check(model.options.vocabulary == train::ByteTokenizer::vocabulary, "'{}' is no model of bytes: its vocabulary is {}",
        file, model.options.vocabulary);
  if (!arguments.only_new) std::fwrite(arguments.prompt.data(), 1, arguments.prompt.size(), stdout);
  const auto print = [](int32_t token) {
    // A closed pipe ends the text.
    return std::fputc(token, stdout) != EOF && std::fflush(stdout) == 0;
  };
  moe::sample_window(model, train::ByteTokenizer::encode(arguments.prompt), arguments.sample, context_of(checkpoint),
                     print);
  if (!arguments.only_new) std::fputc('\n', stdout);
  check(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, "can't write to the standard output");
}

}  // namespace

int main(int argc, char** argv) try {
  Arguments arguments;
  CLI::App app{
      "Lets a model that train_lm trained write text.\n  sample_lm --checkpoint runs/demo --prompt \"And God said\"",
      "sample_lm"};
  app.add_option("--checkpoint", arguments.checkpoint, "a run's folder, or a checkpoint file")->required();
  app.add_option("--prompt", arguments.prompt, "how the text begins (default: a new line)");
  app.add_option("--tokens", arguments.sample.tokens, "how many bytes to write")->capture_default_str();
  app.add_option("--temperature", arguments.sample.temperature, "0: always the likeliest; 1: as the model has learnt")
      ->capture_default_str();
  app.add_option("--top-k", arguments.sample.top_k, "only the k likeliest; 0: all")->capture_default_str();
  app.add_option("--top-p", arguments.sample.top_p, "only the likeliest that reach p together")->capture_default_str();
  app.add_option("--seed", arguments.sample.seed, "of the random numbers")->capture_default_str();
  app.add_option("--device", arguments.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--threads", arguments.threads, "CPU threads; 0: all")->check(CLI::NonNegativeNumber);
  app.add_flag("--only-new", arguments.only_new, "print what the model adds, without the prompt and a last line end");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  }
  if (arguments.threads > 0) set_threads(arguments.threads);
  write(arguments);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
