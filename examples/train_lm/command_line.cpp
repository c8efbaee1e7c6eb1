// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/command_line.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <set>

#include "nn/train/text_files.h"

namespace moxie::train_lm {
namespace {

const char* const description =
    "Trains a Mixture-of-Experts language model on text, byte by byte, and draws what its experts do.\n"
    "  train_lm --data book.txt --minutes 5 --out runs/book\n"
    "  train_lm --resume --out runs/book          goes on after Ctrl-C\n"
    "  train_lm --eval --out runs/book            validation loss of the checkpoint";

// Options that exist in a new run only, by the place that they fill; the others may change when a run goes on.
const std::set<std::string> allowed_with_a_stored_run{
    "--resume", "--eval",    "--out",       "--data",         "--threads", "--help",    "--dry-run",    "--save-every",
    "--device", "--anomaly", "--log-every", "--print-config", "--stop-at", "--profile", "--cuda-graph", "--nvtx"};

class Parser final {
 public:
  Parser() : app_(description, "train_lm") {
    app_.get_formatter()->column_width(34);
    app_.option_defaults()->group("What to do");
    app_.add_flag("--resume", resume_, "go on with the run in --out, with its stored configuration");
    app_.add_flag("--eval", evaluate_, "only compute the validation loss of the run in --out");
    app_.add_flag("--dry-run", dry_run_, "say what the run would be and need, and stop");
    app_.add_flag("--print-config", print_config_, "print the complete configuration as JSON, and stop");
    app_.add_flag("--list-presets", list_presets_, "list the presets, and stop");

    app_.option_defaults()->group("The run");
    app_.add_option("--preset", preset_, "nano, tiny (default), small, fine or dense");
    app_.add_option("--config", config_, "a JSON file as --print-config writes it, in place of a preset");
    add("--data", "a text file, or a folder of them", &Configuration::data);
    app_.add_option("--out", command_.out, "folder of the results")->capture_default_str();
    add("--steps", "optimizer steps", &Configuration::steps);
    add("--minutes", "how long the whole run may take, instead of --steps; fractions are fine",
        &Configuration::minutes);
    add("--seed", "of all random numbers (default 1)", &Configuration::seed);
    app_.add_option("--device", command_.device, "cpu, cuda or cuda:N, where the model is trained")
        ->capture_default_str();
    app_.add_flag("--cuda-graph", command_.cuda_graph,
                  "repeat steps as one CUDA graph: the same numbers, asked for at once");
    app_.add_option("--threads", command_.threads, "CPU threads; 0: all. No influence on the numbers")
        ->check(CLI::NonNegativeNumber);

    app_.add_option("--stop-at", command_.stop_at, "stop and save after this step, to go on later with --resume")
        ->check(CLI::PositiveNumber);

    app_.add_option("--profile", command_.profile,
                    "only make a few steps, time so many of them op by op, print a table and write OUT/trace.json")
        ->check(CLI::PositiveNumber);
    app_.add_flag("--nvtx", command_.nvtx,
                  "name ops in the timeline of NVIDIA's profilers, as of nsys profile train_lm ..");
    app_.add_flag("--anomaly", command_.anomaly,
                  "stop at the first NaN or infinity and say which op made it of what; slower");

    app_.option_defaults()->group("Model");
    add("--layers", "blocks", [](Configuration& c, int64_t v) {
      if (c.model.dense_layers == c.model.layers) c.model.dense_layers = v;
      c.model.layers = v;
    });
    add("--width", "of the model", [](Configuration& c, int64_t v) { c.model.width = v; });
    add("--heads", "attention heads", [](Configuration& c, int64_t v) { c.model.heads = v; });
    add("--kv-heads", "heads of keys and values; 0: as many as heads",
        [](Configuration& c, int64_t v) { c.model.kv_heads = v; });
    add("--head-dim", "of queries, keys and values; 0: width / heads",
        [](Configuration& c, int64_t v) { c.model.head_dim = v; });
    add_name("--qk-norm", "norm of queries and keys: none, per_head or whole",
             [](Configuration& c, const std::string& v) { c.model.qk_norm = nn::qk_norm_from_name(v); });
    add_switch("--tie-embeddings", "input and output share one table",
               [](Configuration& c) { c.model.tie_embeddings = true; });
    add("--dense-layers", "the first so many blocks have no experts",
        [](Configuration& c, int64_t v) { c.model.dense_layers = v; });
    add("--dropout", "after attention and feed-forward", [](Configuration& c, double v) { c.model.dropout = v; });

    app_.option_defaults()->group("Experts");
    add("--experts", "per layer", [](Configuration& c, int64_t v) { c.model.moe.router.experts = v; });
    add("--top-k", "experts per token", [](Configuration& c, int64_t v) { c.model.moe.router.top_k = v; });
    add("--hidden", "hidden size of an expert", [](Configuration& c, int64_t v) { c.model.moe.hidden = v; });
    add_name("--activation", "swiglu, gelu or relu",
             [](Configuration& c, const std::string& v) { c.model.moe.activation = activation_from_name(v); });
    add_name("--router", "linear, cosine or perturbed_cosine",
             [](Configuration& c, const std::string& v) { c.model.moe.router.kind = moe::router_kind_from_name(v); });
    add_name(
        "--weighting", "after_top_k, before_top_k or before_top_k_renormalized",
        [](Configuration& c, const std::string& v) { c.model.moe.router.weighting = moe::weighting_from_name(v); });
    add("--tau", "perturbation of the perturbed cosine router, of tokens and experts",
        [](Configuration& c, double v) { c.model.moe.router.tau_expert = c.model.moe.router.tau_token = v; });
    add("--scale", "factor of the scores", [](Configuration& c, double v) { c.model.moe.router.scale = v; });
    add_name(
        "--noise", "in the router: none, jitter, jitter_shared, gaussian, gumbel, learned or multiplicative",
        [](Configuration& c, const std::string& v) { c.model.moe.router.noise.kind = moe::noise_kind_from_name(v); });
    add("--noise-scale", "how strong it is", [](Configuration& c, double v) { c.model.moe.router.noise.scale = v; });
    add_switch("--noise-selection-only", "choose by noisy scores, weigh by clean ones",
               [](Configuration& c) { c.model.moe.router.noise.selection_only = true; });
    add("--erc-alpha", "train with the expert-router coupling loss at this alpha; smaller is stricter",
        [](Configuration& c, double v) {
          c.model.moe.erc = true;
          c.model.moe.erc_alpha = v;
        });
    add_switch("--no-erc", "train without it", [](Configuration& c) {
      c.model.moe.erc = false;
    })->excludes("--erc-alpha");
    add_name("--balance", "normalisation of the balance loss: switch or hf",
             [](Configuration& c, const std::string& v) { c.model.balance = moe::balance_from_name(v); });
    add("--balance-weight", "of the balance loss; 0: off",
        [](Configuration& c, double v) { c.model.balance_weight = v; });
    add("--load-weight", "of the load loss of gaussian and learned noise; 0: off",
        [](Configuration& c, double v) { c.model.load_weight = v; });
    add("--z-weight", "of the z-loss; 0: off", [](Configuration& c, double v) { c.model.z_weight = v; });

    app_.option_defaults()->group("Training");
    add("--context", "tokens per sequence", &Configuration::context);
    add("--batch", "sequences per step", &Configuration::batch);
    add("--micro-batches", "parts in which a step's batch is computed, to save memory", &Configuration::micro_batches);
    add_name("--optimizer",
             "adamw (default), adam, sgd, lion or muon; brings lr, decay, betas and momentum that suit it",
             [](Configuration& c, const std::string& v) { set_optimizer(c, nn::optimizer_kind_from_name(v)); });
    add("--lr", "highest learning rate", &Configuration::lr);
    add("--warmup", "steps in which it rises", &Configuration::warmup);
    add_name("--decay", "cosine, linear, constant, wsd_linear, wsd_sqrt or one_cycle",
             [](Configuration& c, const std::string& v) { c.decay = nn::decay_from_name(v); });
    add("--final-lr-share", "share of the learning rate that is left at the end", &Configuration::final_lr_share);
    add("--weight-decay", "of all but norms, biases and embeddings", &Configuration::weight_decay);
    add("--clip", "largest norm of the gradient; 0: no limit", &Configuration::clip);
    add("--beta1", "of adamw, adam, lion and muon", &Configuration::beta1);
    add("--beta2", "of adamw, adam, lion and muon", &Configuration::beta2);
    add("--momentum", "of sgd and muon", &Configuration::momentum);
    add_name("--dtype", "f32 or bf16, of activations and matmuls", [](Configuration& c, const std::string& v) {
      c = configuration_from_json(fmt::format("{{\"dtype\": \"{}\"}}", v), "--dtype", c);
    });
    add_switch("--recompute", "compute activations twice, to save memory",
               [](Configuration& c) { c.model.recompute = true; });

    app_.option_defaults()->group("Reports");
    app_.add_option("--log-every", command_.log_every, "steps between lines; 0: about every three seconds")
        ->check(CLI::NonNegativeNumber);
    add("--eval-every", "steps between validations; 0: a twelfth of the run", &Configuration::eval_every);
    add("--eval-batches", "batches of each validation on the way", &Configuration::eval_batches);
    add("--final-tokens", "at most so many tokens in the last validation, with --minutes maybe fewer; 0: all",
        &Configuration::final_tokens);
    add("--sample-every", "steps between samples; 0: none, -1: a quarter of the run", &Configuration::sample_every);
    add("--sample-bytes", "of the sample at the end", &Configuration::sample_bytes);
    add("--validation-share", "of the text, from its end", &Configuration::validation_share);
    app_.add_option("--save-every", command_.save_every, "steps between checkpoints; 0: every minute")
        ->check(CLI::NonNegativeNumber);
  }

  std::variant<Command, int> parse(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      const int status = app_.exit(error);
      return status == 0 ? 0 : 1;
    }
    if (list_presets_) {
      for (const Preset& known : presets()) fmt::print("{:<6}  {}\n", known.name, known.description);
      return 0;
    }
    if (resume_ || evaluate_) return stored_run();
    check(preset_.empty() || config_.empty(), "--preset and --config exclude each other");
    check(app_.count("--steps") == 0 || app_.count("--minutes") == 0, "--steps and --minutes exclude each other");
    Configuration& c = command_.configuration;
    c = config_.empty() ? preset(preset_.empty() ? "tiny" : preset_)
                        : configuration_from_json(train::read_text_file(config_), config_);
    if (app_.count("--minutes") > 0) c.steps = 0;
    if (app_.count("--steps") > 0) c.minutes = 0;
    for (const auto& apply : changes_) apply(c);
    check(app_.count("--steps") == 0 || c.steps > 0, "--steps must be at least 1, got {}", c.steps);
    check(app_.count("--minutes") == 0 || c.minutes > 0, "--minutes must be above 0, got {}", c.minutes);
    check(app_.count("--tau") == 0 || c.model.moe.router.kind == moe::RouterKind::perturbed_cosine,
          "--tau belongs to the perturbed_cosine router, this one is {}", moe::name_of(c.model.moe.router.kind));
    if (c.steps == 0 && c.minutes == 0) c.minutes = 5;
    if (c.steps == 0) c.warmup = std::max(c.warmup, timed_steps);
    command_.mode = print_config_ ? Mode::print_config : dry_run_ ? Mode::dry_run : Mode::train;
    return command_;
  }

 private:
  Command stored_run() {
    check(!(resume_ && evaluate_), "--resume and --eval exclude each other");
    check(!dry_run_ && !print_config_,
          "--dry-run and --print-config are for new runs; OUT/config.json has the configuration of an old one");
    for (const CLI::Option* option : app_.get_options()) {
      if (option->count() == 0) continue;
      const std::string name = option->get_name();
      check(allowed_with_a_stored_run.contains(name),
            "{} goes on with the stored configuration, so {} can't change; begin a new run for that",
            resume_ ? "--resume" : "--eval", name);
    }
    check(app_.count("--out") > 0, "{} needs --out, the folder of the run", resume_ ? "--resume" : "--eval");
    for (const auto& apply : changes_) apply(command_.configuration);
    if (app_.count("--data") > 0) command_.data = command_.configuration.data;
    command_.mode = resume_ ? Mode::resume : Mode::evaluate;
    return command_;
  }

  // Values are applied after the preset, in the order of the options.
  template <class T, class Set> CLI::Option* add_value(const std::string& name, const std::string& help, Set set) {
    auto value = std::make_shared<T>();
    CLI::Option* option = app_.add_option(name, *value, help);
    changes_.push_back([value, option, set](Configuration& c) {
      if (option->count() > 0) set(c, *value);
    });
    return option;
  }
  template <class T> void add(const std::string& name, const std::string& help, T Configuration::*place) {
    add_value<T>(name, help, [place](Configuration& c, const T& value) { c.*place = value; });
  }
  void add(const std::string& name, const std::string& help, void (*set)(Configuration&, int64_t)) {
    add_value<int64_t>(name, help, set);
  }
  void add(const std::string& name, const std::string& help, void (*set)(Configuration&, double)) {
    add_value<double>(name, help, set);
  }
  void add_name(const std::string& name, const std::string& help, void (*set)(Configuration&, const std::string&)) {
    add_value<std::string>(name, help, set);
  }
  CLI::Option* add_switch(const std::string& name, const std::string& help, void (*set)(Configuration&)) {
    CLI::Option* option = app_.add_flag(name, help);
    changes_.push_back([option, set](Configuration& c) {
      if (option->count() > 0) set(c);
    });
    return option;
  }

  CLI::App app_;
  Command command_;
  std::string preset_, config_;
  bool resume_ = false, evaluate_ = false, dry_run_ = false, print_config_ = false, list_presets_ = false;
  std::vector<std::function<void(Configuration&)>> changes_;
};

}  // namespace

std::variant<Command, int> parse_command_line(int argc, char** argv) { return Parser().parse(argc, argv); }

}  // namespace moxie::train_lm
