// SPDX-License-Identifier: Apache-2.0
// A decoder-only language model whose blocks are dense or MoE: embedding, pre-norm blocks of causal attention and a
// feed-forward network, a last norm, and a projection onto the vocabulary.
#pragma once
#include <optional>
#include <vector>

#include "moe/layer.h"
#include "nn/attention.h"

namespace moxie::moe {

struct LanguageModelOptions {
  int64_t vocabulary = 256;
  int64_t layers = 4;
  int64_t width = 128;
  int64_t heads = 4;
  int64_t kv_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;  // 0: width / heads
  nn::QkNorm qk_norm = nn::QkNorm::none;
  bool attention_bias = false;  // of q, k, v and the output
  double clip_qkv = 0;          // q, k and v are cut to [-clip_qkv, clip_qkv]; 0: not
  double rope_base = 10000;
  double norm_epsilon = 1e-5;  // of every norm
  int64_t dense_layers = 0;    // the first so many blocks are dense
  int64_t dense_hidden = 0;    // of a dense block; 0: top_k * moe.hidden, the MoE's active size
  double dropout = 0;          // after attention and feed-forward
  bool tie_embeddings = false;
  bool recompute = false;  // blocks keep only their input and run again in the backward pass
  double balance_weight = 0.01;
  BalanceNormalization balance = BalanceNormalization::switch_;
  double z_weight = 0;
  double load_weight = 0;  // of load_loss, for gaussian and learned noise; 0.1 in Shazeer et al.
  MoeOptions moe = {};
};

struct Losses {
  Tensor cross_entropy;           // mean over the tokens, nats
  Tensor balance, z;              // over the MoE layers, before their weights; undefined without MoE layers
  Tensor load;                    // load_loss over the MoE layers; undefined where it has no weight or nothing is drawn
  Tensor erc;                     // mean over the MoE layers; undefined where it wasn't computed
  std::vector<Routing> routings;  // one per MoE layer

  // (cross_entropy + balance_weight balance + z_weight z + load_weight load) / micro_batches + erc, whose backward
  // accumulates over them.
  Tensor total(const LanguageModelOptions& options, int64_t micro_batches = 1) const;
};

// What runs through the blocks: x, and a block's last branch, which the next norm adds to it while it reads both.
struct Residual {
  Tensor x, branch;  // [batch, time, width]; no branch: undefined
  Tensor sum() const { return branch.defined() ? x + branch : x; }
};

struct Block {
  nn::RmsNorm attention_norm;
  nn::Attention attention;
  nn::RmsNorm feed_forward_norm;
  std::optional<MoeLayer> moe;
  std::optional<nn::FeedForward> dense;
  nn::Dropout attention_dropout, feed_forward_dropout;

  Block(const LanguageModelOptions& options, bool is_moe, nn::Initializer& init);
  struct Output {
    Residual residual;
    std::optional<Routing> routing;  // of an MoE layer, whose ERC loss LanguageModel computes beside the block
  };
  Output operator()(Residual residual, const nn::Context& context, nn::KeyValueCache* cache = nullptr) const;
  static void visit(auto& self, auto&& f) {
    f("attention_norm", self.attention_norm), f("attention", self.attention);
    f("feed_forward_norm", self.feed_forward_norm), f("moe", self.moe), f("dense", self.dense);
  }
};

struct LanguageModel {
  LanguageModelOptions options;
  nn::Embedding embedding;
  std::vector<Block> blocks;
  nn::RmsNorm norm;
  nn::Parameter head;  // [vocabulary, width]; the embedding's weight where tied

  // Throws std::invalid_argument naming the first impossible option. The same seed gives the same parameters, drawn on
  // `device` (nn::Initializer).
  LanguageModel(const LanguageModelOptions& wanted, uint64_t seed, Device device = Device::cpu());
  // Where the parameters are, and the tokens must be.
  Device device() const { return head.value().device(); }

  // tokens [batch, time] (i32) -> logits [batch, time, vocabulary]. `caches`, one per block, continue earlier tokens.
  Tensor operator()(const Array& tokens, const nn::Context& context,
                    std::vector<nn::KeyValueCache>* caches = nullptr) const;
  // The losses of predicting targets [batch, time] (i32) from tokens.
  Losses losses(const Array& tokens, const Array& targets, const nn::Context& context) const;
  static void visit(auto& self, auto&& f) {
    f("embedding", self.embedding), f("blocks", self.blocks), f("norm", self.norm), f("head", self.head);
  }

 private:
  LanguageModel(const LanguageModelOptions& complete, nn::Initializer init);
  struct Hidden {
    Tensor x;  // after the last norm
    std::vector<Routing> routings;
    std::vector<Tensor> erc;
  };
  Hidden forward(const Array& tokens, const nn::Context& context, std::vector<nn::KeyValueCache>* caches) const;
};

// Multiplications of one training step on `tokens` tokens in sequences of `time`, forward and backward, in FLOPs:
// 6 * tokens * (matmul weights active per token + causal attention counted in half).
double training_flops(const LanguageModelOptions& options, int64_t tokens, int64_t time);

}  // namespace moxie::moe
