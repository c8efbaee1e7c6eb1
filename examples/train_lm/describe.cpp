// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/describe.h"

#include <algorithm>

#include "core/parallel.h"
#include "core/storage.h"
#include "nn/train/memory.h"
#include "nn/train/progress.h"

namespace moxie::train_lm {
namespace {

bool has_moe(const Configuration& c) { return c.model.dense_layers < c.model.layers; }

std::string words_of_length(const Configuration& c) {
  if (c.steps > 0) return fmt::format("{} steps", c.steps);
  return fmt::format("as many steps as fit into {}", train::format_duration(60 * c.minutes));
}

std::string words_of_losses(const Configuration& c) {
  std::string text = "cross entropy";
  if (!has_moe(c)) return text;
  if (c.model.balance_weight > 0)
    text += fmt::format(" + {} balance ({})", c.model.balance_weight, moe::name_of(c.model.balance));
  if (c.model.z_weight > 0) text += fmt::format(" + {} z", c.model.z_weight);
  if (c.model.load_weight > 0) text += fmt::format(" + {} load", c.model.load_weight);
  if (c.model.moe.erc) text += fmt::format(" + ERC, alpha {}", c.model.moe.erc_alpha);
  return text;
}

std::string words_of_model(const Configuration& c) {
  const moe::LanguageModelOptions& m = c.model;
  const int64_t dense_hidden = m.dense_hidden > 0 ? m.dense_hidden : m.moe.router.top_k * m.moe.hidden;
  std::string text = fmt::format("{} layers, width {}, {} heads", m.layers, m.width, m.heads);
  if (m.kv_heads > 0 && m.kv_heads != m.heads) text += fmt::format(" ({} of keys and values)", m.kv_heads);
  if (m.head_dim > 0) text += fmt::format(" of {}", m.head_dim);
  if (m.qk_norm != nn::QkNorm::none) text += fmt::format(", QK norm {}", name_of(m.qk_norm));
  if (m.attention_bias) text += ", attention bias";
  if (m.clip_qkv > 0) text += fmt::format(", QKV clipped at {}", m.clip_qkv);
  if (m.dense_layers > 0)
    text += fmt::format("; {} dense, hidden {} ({})", m.dense_layers, dense_hidden, name_of(m.moe.activation));
  if (has_moe(c))
    text += fmt::format("; {} experts of hidden {} ({}), {} per token", m.moe.router.experts, m.moe.hidden,
                        name_of(m.moe.activation), m.moe.router.top_k);
  if (m.dropout > 0) text += fmt::format("; dropout {}", m.dropout);
  if (m.tie_embeddings) text += "; tied embeddings";
  return text;
}

std::string words_of_optimizer(const Configuration& c) {
  const auto betas = [&] { return fmt::format("betas {} and {}", c.beta1, c.beta2); };
  switch (c.optimizer) {
    case nn::OptimizerKind::adamw: return "AdamW, " + betas();
    case nn::OptimizerKind::adam: return "Adam, " + betas();
    case nn::OptimizerKind::sgd: return fmt::format("SGD, momentum {}", c.momentum);
    case nn::OptimizerKind::lion: return "Lion, " + betas();
    case nn::OptimizerKind::muon: return fmt::format("Muon, momentum {}, for the rest AdamW, {}", c.momentum, betas());
  }
  return "?";
}

// What the optimizer keeps of one number.
double optimizer_bytes(const Configuration& c) {
  switch (c.optimizer) {
    case nn::OptimizerKind::sgd: return c.momentum > 0 ? 4 : 0;
    case nn::OptimizerKind::lion:
    case nn::OptimizerKind::muon: return 4;  // muon: of matrices, which are nearly all
    default: return 8;
  }
}

// Bytes of all arrays, in use or kept for reuse, after passes forward and backward over `batch` sequences.
double bytes_of_passes(const Run& run, int64_t batch) {
  const Configuration& c = run.configuration;
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < batch * c.context; ++i)
    tokens.push_back(static_cast<int32_t>(i * i * 31 % c.model.vocabulary));
  const Array text = Array::from(tokens, {batch, c.context});
  release_cached_memory();
  for (int pass = 0; pass < 2; ++pass)  // the second finds gradients
    run.model.losses(text, text, {.training = true, .dtype = c.dtype, .seed = c.seed})
        .total(run.model.options, c.micro_batches)
        .backward();
  nn::clear_grads(run.model);
  return static_cast<double>(cpu_memory().reserved_bytes);
}

std::string words_of_device(Device device) {
  return device.is_cpu() ? fmt::format("{} {}", threads(), threads() == 1 ? "thread" : "threads") : device.name();
}

}  // namespace

ModelSize size_of(const moe::LanguageModel& model) {
  ModelSize size{.parameters = nn::count(model), .active = nn::count(model)};
  for (const moe::Block& block : model.blocks) {
    if (!block.moe) continue;
    const moe::RouterOptions& router = block.moe->options.router;
    size.active -= nn::count(block.moe->experts) / router.experts * (router.experts - router.top_k);
  }
  return size;
}

MemoryEstimate estimate_memory(const Run& run) {
  const Configuration& c = run.configuration;
  const auto numbers = static_cast<double>(nn::count(run.model));
  const int64_t batch = c.batch / c.micro_batches, large = std::min<int64_t>(batch, 8),
                small = std::min<int64_t>(batch, 4);
  const double of_small = bytes_of_passes(run, small),
               of_large = large > small ? bytes_of_passes(run, large) : of_small;
  // What a run takes beside its arrays and is not there yet: buffers of matmuls, files and pictures, as measured.
  constexpr double of_running = 12e6;
  const double rest = static_cast<double>(train::resident_bytes()) - of_large + of_running;
  const double each = large > small ? (of_large - of_small) / static_cast<double>(large - small) : 0;
  MemoryEstimate estimate{.parameters = numbers * (c.dtype == Dtype::bf16 ? 6 : 4),
                          .gradients = numbers * 4,
                          .optimizer = numbers * optimizer_bytes(c),
                          .activations = of_large + each * static_cast<double>(batch - large),
                          .rest = std::max(rest, 0.0)};
  estimate.activations -= estimate.parameters + estimate.gradients + estimate.optimizer;
  release_cached_memory();
  return estimate;
}

std::string describe(const Run& run) {
  const Configuration& c = run.configuration;
  const ModelSize size = size_of(run.model);
  const double flops = moe::training_flops(c.model, c.tokens_per_step(), c.context);
  std::string text;
  const auto line = [&](const char* name, const std::string& words) { text += fmt::format("{:<11}{}\n", name, words); };
  line("data", fmt::format("{}: {}", c.data, run.data.identity()));
  line("model", words_of_model(c));
  line("router", has_moe(c) ? moe::describe(c.model.moe.router) : "none");
  line("losses", words_of_losses(c));
  line("parameters", fmt::format("{} ({}), {} ({}) active per token", size.parameters,
                                 train::format_count(static_cast<double>(size.parameters)), size.active,
                                 train::format_count(static_cast<double>(size.active))));
  line("optimizer",
       fmt::format("{}, lr {:.4g} after {} warm-up steps, {} to {:.0f}%, weight decay {:.4g}, clip {}",
                   words_of_optimizer(c), c.lr, c.warmup, nn::name_of(c.decay),
                   c.decay == nn::Decay::constant ? 100.0 : 100 * c.final_lr_share, c.weight_decay, c.clip));
  line("step", fmt::format("{} x {} = {} tokens{}, {:.1f} GFLOP, {}, {}", c.batch, c.context, c.tokens_per_step(),
                           c.micro_batches > 1 ? fmt::format(" in {} parts", c.micro_batches) : "", flops * 1e-9,
                           name_of(c.dtype), words_of_device(run.model.device())));
  line("run", fmt::format("{}, seed {}", words_of_length(c), c.seed));
  return text;
}

std::string describe_plan(const Run& run) {
  const Configuration& c = run.configuration;
  const MemoryEstimate memory = estimate_memory(run);
  std::string text = describe(run);
  const auto line = [&](const char* name, const std::string& words) { text += fmt::format("{:<11}{}\n", name, words); };
  const double epoch = run.data.steps_per_epoch(c.batch, c.context);
  line("epoch",
       fmt::format("{} windows of {} bytes, {:.1f} steps{}", run.data.windows_per_epoch(c.context), c.context, epoch,
                   c.steps > 0 ? fmt::format("; the run is {:.2f} epochs", static_cast<double>(c.steps) / epoch) : ""));
  line("validation", fmt::format("{} windows of {} bytes in {} bytes", run.data.validation_windows(c.context),
                                 c.context, run.data.validation_bytes()));
  line("memory", fmt::format("about {}: parameters {}, gradients {}, optimizer {}, activations {}, program and text {}",
                             train::format_bytes(memory.total()), train::format_bytes(memory.parameters),
                             train::format_bytes(memory.gradients), train::format_bytes(memory.optimizer),
                             train::format_bytes(memory.activations), train::format_bytes(memory.rest)));
  if (c.steps > 0) {
    const double flops = moe::training_flops(c.model, c.tokens_per_step(), c.context) * static_cast<double>(c.steps);
    line("in all", fmt::format("{} tokens, {:.3g} FLOP", c.steps * c.tokens_per_step(), flops));
  }
  return text;
}

}  // namespace moxie::train_lm
