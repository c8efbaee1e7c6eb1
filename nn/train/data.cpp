// SPDX-License-Identifier: Apache-2.0
#include "nn/train/data.h"

#include <algorithm>

#include "nn/context.h"
#include "nn/train/hash.h"
#include "nn/train/permutation.h"
#include "nn/train/text_files.h"

namespace moxie::train {
namespace {

// Purpose::data draws in two streams: the order of an epoch's windows and their offset.
RandomKey epoch_key(uint64_t seed, int64_t epoch, uint32_t layer) {
  const nn::Context context{.seed = seed, .step = static_cast<uint32_t>(epoch), .layer = layer};
  return context.key(nn::Purpose::data, false);
}

void check_sizes(int64_t batch_size, int64_t context) {
  check(batch_size >= 1, "data: the batch size must be at least 1, got {}", batch_size);
  check(context >= 1, "data: the context must be at least 1, got {}", context);
}

// How many windows the steps before `step` have read.
int64_t first_sample(int64_t step, int64_t batch_size) {
  check(step >= 0, "data: steps count from 0, got {}", step);
  check(step < (int64_t{1} << 62) / batch_size, "data: step {} with batches of {} is too far", step, batch_size);
  return step * batch_size;
}

Batch empty_batch(int64_t batch_size, int64_t context) {
  return {Array::empty({batch_size, context}, {.dtype = Dtype::i32}),
          Array::empty({batch_size, context}, {.dtype = Dtype::i32})};
}

}  // namespace

TextData::TextData(const std::string& path, TextDataOptions options) : files_(list_text_files(path)) {
  for (const std::string& file : files_) {
    std::string text = read_text_file(file);
    if (text_.empty()) {
      text_ = std::move(text);
    } else if (!text.empty()) {
      if (text_.back() != '\n') text_ += '\n';
      text_ += text;
    }
  }
  if (files_.size() == 1) {
    check(!text_.empty(), "data: the file '{}' is empty", files_[0]);
  } else {
    check(!text_.empty(), "data: all {} files in the folder '{}' are empty", files_.size(), path);
  }
  split(options, fmt::format("'{}'", path));
}

TextData TextData::from_text(std::string text, TextDataOptions options) {
  TextData data;
  data.text_ = std::move(text);
  check(!data.text_.empty(), "data: the text is empty");
  data.split(options, "the text");
  return data;
}

void TextData::split(TextDataOptions options, const std::string& source) {
  const double share = options.validation_share;
  check(share >= 0 && share < 1, "data: validation_share must be in [0, 1), got {}", share);
  train_bytes_ = bytes() - static_cast<int64_t>(static_cast<double>(bytes()) * share);
  hash_ = hash_text(text_);
  source_ = source;
}

std::string TextData::identity() const {
  return fmt::format("{} bytes, {} to train, hash {}", bytes(), train_bytes_, hex(hash_));
}

void TextData::check_context(int64_t context) const {
  check_sizes(1, context);
  // Not context + 1, which could overflow.
  check(
      train_bytes_ > context,
      "data: {} has {} bytes to train on, too few for a context of {} and one target more; give more text or a shorter "
      "context",
      source_, train_bytes_, context);
  check(validation_bytes() == 0 || validation_bytes() > context,
        "data: {} has {} bytes for validation, too few for a context of {} and one target more; give more text, a "
        "shorter context, or another validation_share (0 for none)",
        source_, validation_bytes(), context);
}

int64_t TextData::windows_per_epoch(int64_t context) const {
  check_context(context);
  return std::max<int64_t>((train_bytes_ - context) / context, 1);
}

int64_t TextData::epoch_of(int64_t step, int64_t batch_size, int64_t context) const {
  check_sizes(batch_size, context);
  return first_sample(step, batch_size) / windows_per_epoch(context);
}

double TextData::steps_per_epoch(int64_t batch_size, int64_t context) const {
  check_sizes(batch_size, context);
  return static_cast<double>(windows_per_epoch(context)) / static_cast<double>(batch_size);
}

Batch TextData::batch(uint64_t seed, int64_t step, int64_t batch_size, int64_t context) const {
  check_sizes(batch_size, context);
  const int64_t sample = first_sample(step, batch_size);
  const int64_t windows = windows_per_epoch(context);
  const Batch result = empty_batch(batch_size, context);
  // Where the last window may still begin so that its targets fit, less the place of the last window: at least 0.
  const int64_t slack = train_bytes_ - 1 - windows * context;
  for (int64_t row = 0; row < batch_size;) {
    const int64_t epoch = (sample + row) / windows;
    const int64_t offset = random_below(epoch_key(seed, epoch, 1), 0, slack + 1);
    const Permutation order(epoch_key(seed, epoch, 0), windows);
    for (int64_t at = (sample + row) % windows; at < windows && row < batch_size; ++at, ++row) {
      fill_row(result, row, offset + order(at) * context);
    }
  }
  return result;
}

int64_t TextData::validation_windows(int64_t context) const {
  check_context(context);
  return validation_bytes() == 0 ? 0 : (validation_bytes() - 1) / context;
}

std::vector<Batch> TextData::validation_batches(int64_t batch_size, int64_t context, int64_t max_batches) const {
  check_sizes(batch_size, context);
  check(max_batches >= 0, "data: max_batches must not be negative, got {}", max_batches);
  const int64_t windows = validation_windows(context);
  const bool all = max_batches == 0 || max_batches >= (windows + batch_size - 1) / batch_size;
  const int64_t used = all ? windows : max_batches * batch_size;
  std::vector<Batch> batches;
  for (int64_t first = 0; first < used; first += batch_size) {
    const int64_t rows = std::min(batch_size, used - first);
    batches.push_back(empty_batch(rows, context));
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t window = (first + row) * windows / used;
      fill_row(batches.back(), row, train_bytes_ + window * context);
    }
  }
  return batches;
}

void TextData::fill_row(const Batch& batch, int64_t row, int64_t first) const {
  const int64_t context = batch.tokens.dim(1);
  check_internal(first >= 0 && first + context < bytes(), "data: window [{}, {}] is outside of {} bytes", first,
                 first + context, bytes());
  const auto* from = reinterpret_cast<const unsigned char*>(text_.data()) + first;
  int32_t* tokens = batch.tokens.data<int32_t>() + row * context;
  int32_t* targets = batch.targets.data<int32_t>() + row * context;
  for (int64_t i = 0; i < context; ++i) {
    tokens[i] = from[i];
    targets[i] = from[i + 1];
  }
}

}  // namespace moxie::train
