// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "autograd/profile.h"
#include "moe/language_model_config.h"
#include "nn/atomic_file.h"

namespace moxie::train_lm {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

const Configuration& validated(const Configuration& configuration) {
  validate(configuration);
  check(!configuration.data.empty(), "what to train on? give --data FILE or --data FOLDER");
  return configuration;
}

train::TextData open_data(const Configuration& configuration) {
  train::TextData data(configuration.data, {.validation_share = configuration.validation_share});
  data.check_context(configuration.context);
  return data;
}

Configuration stored_configuration(const train::Checkpoint& checkpoint, const std::optional<std::string>& moved_data) {
  Configuration configuration =
      configuration_from_json(train::metadata_value(checkpoint, "configuration"), "the stored configuration");
  if (moved_data) configuration.data = *moved_data;
  return validated(configuration);
}

std::vector<double> values_of(const Array& matrix) { return matrix.to(Dtype::f64).to_vector<double>(); }

moe::LanguageModel moved(moe::LanguageModel model, Device device) {
  nn::to(model, device);
  return model;
}

// Forward and backward passes of a step, part by part; the context says which step.
std::vector<Part> run_passes(const Run& run, const Array& tokens, const Array& targets, nn::Context context) {
  const Configuration& c = run.configuration;
  const int64_t rows = c.batch / c.micro_batches;
  context.training = true, context.dtype = c.dtype, context.seed = c.seed;
  std::vector<Part> parts;
  for (int64_t part = 0; part < c.micro_batches; ++part) {
    context.micro_batch = static_cast<uint32_t>(part);
    context.first_token = part * rows * c.context;
    const moe::Losses losses =
        run.model.losses(tokens.rows(part * rows, rows), targets.rows(part * rows, rows), context);
    losses.total(c.model, c.micro_batches).backward();
    Part& kept = parts.emplace_back();
    kept.losses = {losses.cross_entropy.value(), losses.balance.value(), losses.z.value(), losses.load.value(),
                   losses.erc.value()};
    for (const moe::Routing& routing : losses.routings) kept.offsets.push_back(routing.offsets);
  }
  return parts;
}

Part copied(const Part& part) {
  Part copy;
  for (size_t i = 0; i < part.losses.size(); ++i) copy.losses[i] = part.losses[i].clone();
  for (const Array& offsets : part.offsets) copy.offsets.push_back(offsets.clone());
  return copy;
}

}  // namespace

Run::Run(const Configuration& wanted, Device device)
    : configuration(validated(wanted)),
      data(open_data(wanted)),
      model(moved(moe::LanguageModel(wanted.model, wanted.seed), device)),
      optimizer(nn::make_optimizer(nn::parameters(model), wanted.optimizer_options())),
      coupling_before(couplings(model)) {}

Run::Run(const train::Checkpoint& checkpoint, const std::optional<std::string>& moved_data, Device device)
    : configuration(stored_configuration(checkpoint, moved_data)),
      data(open_data(configuration)),
      model(moved(moe::restore_language_model(checkpoint), device)),
      optimizer(nn::make_optimizer(nn::parameters(model), configuration.optimizer_options())),
      step(std::stoll(train::metadata_value(checkpoint, "step"))),
      initial_validation_loss(std::stod(train::metadata_value(checkpoint, "initial_validation_loss"))),
      load(LoadHistory::restore(checkpoint)) {
  const std::string& identity = train::metadata_value(checkpoint, "data");
  check(data.identity() == identity,
        "the text in '{}' is not the one that the run was trained on: it was {}, now it is {}; give the old text with "
        "--data",
        configuration.data, identity, data.identity());
  optimizer->set_state(train::without_prefix(checkpoint.arrays, "optimizer"), step);
  for (const nn::NamedArray& named : train::without_prefix(checkpoint.arrays, "coupling_before"))
    coupling_before.push_back(values_of(named.array));
}

train::Checkpoint Run::checkpoint() const {
  train::Checkpoint result;
  moe::store(model, result);
  for (nn::NamedArray& named : train::with_prefix(optimizer->state(), "optimizer"))
    result.arrays.push_back(std::move(named));
  for (size_t layer = 0; layer < coupling_before.size(); ++layer)
    result.arrays.push_back(
        {fmt::format("coupling_before.{}", layer), Array::from(coupling_before[layer], {experts(), experts()})});
  load.store(result);
  result.metadata["configuration"] = to_json(configuration);
  result.metadata["data"] = data.identity();
  result.metadata["step"] = std::to_string(step);
  result.metadata["initial_validation_loss"] = fmt::format("{}", initial_validation_loss);
  return result;
}

void Run::use_graph() {
  const Shape shape{configuration.batch, configuration.context};
  const Options kind{Dtype::i32, model.device()};
  graph.reset(new GraphOfSteps{{kind.device, *optimizer}, Array::zeros(shape, kind), Array::zeros(shape, kind)});
}

PendingStep start_step(Run& run) {
  const Configuration& c = run.configuration;
  PendingStep pending{.step = run.step + 1, .learning_rate = c.schedule().at(run.step)};
  const train::Batch batch = run.data.batch(c.seed, run.step, c.batch, c.context);
  const Array tokens = batch.tokens.to(run.model.device()), targets = batch.targets.to(run.model.device());
  Profiler::mark("data");
  const auto number = static_cast<uint32_t>(run.step);
  if (run.graph) {
    GraphOfSteps& graph = *run.graph;
    graph.tokens.copy_from(tokens);
    graph.targets.copy_from(targets);
    pending.norm = graph.steps.step(number, pending.learning_rate, [&] {
      graph.parts = run_passes(run, graph.tokens, graph.targets, {.step_at = graph.steps.counter()});
    });
    for (const Part& part : graph.parts) pending.parts.push_back(copied(part));  // the next step overwrites them
  } else {
    pending.parts = run_passes(run, tokens, targets, {.step = number});
    pending.norm = run.optimizer->step(pending.learning_rate);
  }
  ++run.step;
  return pending;
}

StepResult PendingStep::read() const {
  StepResult result{.step = step, .gradient_norm = norm, .learning_rate = learning_rate};
  const double share = 1 / static_cast<double>(parts.size());
  result.erc = nan;
  for (const Part& part : parts) {
    const auto value = [&](size_t i) { return part.losses[i].defined() ? part.losses[i].item() : nan; };
    result.loss += share * value(0);
    result.balance += share * value(1);
    result.z += share * value(2);
    result.load_loss += share * value(3);
    if (part.losses[4].defined()) result.erc = value(4);
    result.loads.resize(part.offsets.size());
    for (size_t layer = 0; layer < part.offsets.size(); ++layer) {
      const std::vector<int64_t> load = moe::load_of(part.offsets[layer]);
      result.loads[layer].resize(load.size());
      for (size_t expert = 0; expert < load.size(); ++expert) result.loads[layer][expert] += load[expert];
    }
  }
  if (result.loads.empty()) result.max_over_mean = nan;
  for (const std::vector<int64_t>& load : result.loads) {
    const moe::LoadMetrics metrics = moe::load_metrics(load);
    result.max_over_mean = std::max(result.max_over_mean, metrics.max_over_mean);
    result.dead += metrics.dead;
  }
  return result;
}

Couplings couplings(const moe::LanguageModel& model) {
  Couplings all;
  if (model.options.moe.router.projection != 0) return all;
  for (const moe::Block& block : model.blocks)
    if (block.moe) all.push_back(values_of(block.moe->coupling()));
  return all;
}

std::vector<int64_t> violations(const Couplings& couplings, double alpha) {
  std::vector<int64_t> counts;
  for (const std::vector<double>& matrix : couplings) {
    const auto experts = std::llround(std::sqrt(static_cast<double>(matrix.size())));
    counts.push_back(moe::erc_violations(Array::from(matrix, {experts, experts}), alpha));
  }
  return counts;
}

std::optional<int64_t> total_violations(const Run& run) {
  if (run.coupling_before.empty()) return std::nullopt;
  int64_t sum = 0;
  for (const int64_t count : violations(couplings(run.model), run.configuration.model.moe.erc_alpha)) sum += count;
  return sum;
}

std::string Files::path(const std::string& name) const { return (std::filesystem::path(folder) / name).string(); }

void save_configuration(const Run& run, const Files& files) {
  nn::write_file(files.path("config.json"), to_json(run.configuration) + "\n");
}

void save(const Run& run, const Files& files) {
  train::save_checkpoint(files.checkpoint(), run.checkpoint());
  nn::write_file(files.path("load.csv"), run.load.csv());
}

train::Checkpoint load_run_checkpoint(const Files& files) {
  check(std::filesystem::exists(files.checkpoint()), "'{}' has no checkpoint; train_lm --out {} begins a run there",
        files.folder, files.folder);
  const train::Checkpoint checkpoint = train::load_checkpoint(files.checkpoint());
  check(checkpoint.metadata.contains("configuration") && checkpoint.metadata.contains("model"),
        "'{}' is a checkpoint of something else than train_lm", files.checkpoint());
  return checkpoint;
}

}  // namespace moxie::train_lm
