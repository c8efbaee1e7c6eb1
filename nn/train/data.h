// SPDX-License-Identifier: Apache-2.0
// Text to train on. Which bytes a step sees is a function of the seed and the step alone: there is no state to save,
// and a resumed run reads on exactly where it stopped.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/array.h"

namespace moxie::train {

struct TextDataOptions {
  double validation_share = 0.05;  // of the bytes, from the end of the text; in [0, 1)
};

struct Batch {
  Array tokens;   // [batch, context] i32
  Array targets;  // [batch, context] i32: the token after each
};

// A text, one token per byte, held in memory. The last share of it is kept for validation and never trained on.
class TextData final {
 public:
  // Reads a file, or all regular files below a folder in the order of their names, with a line end between two files;
  // hidden files and folders are left out. Throws std::invalid_argument where there is no text or a share is out of
  // range, std::runtime_error where something can't be read.
  explicit TextData(const std::string& path, TextDataOptions options = {});
  // The same for a text in memory.
  static TextData from_text(std::string text, TextDataOptions options = {});

  int64_t bytes() const { return static_cast<int64_t>(text_.size()); }
  int64_t train_bytes() const { return train_bytes_; }
  int64_t validation_bytes() const { return bytes() - train_bytes_; }
  std::string_view train_text() const { return std::string_view(text_).substr(0, static_cast<size_t>(train_bytes_)); }
  std::string_view validation_text() const { return std::string_view(text_).substr(static_cast<size_t>(train_bytes_)); }
  // The files the text came from; empty for a text from memory.
  const std::vector<std::string>& files() const { return files_; }
  // Size, split and hash of the text, "4404423 bytes, 4184201 to train, hash 5f1c…": equal for equal data. A run that
  // resumes compares it.
  std::string identity() const;

  // Throws std::invalid_argument, with sizes and cure, unless one window of `context` tokens and its targets fits the
  // training text, and the validation text if there is one.
  void check_context(int64_t context) const;

  // How many windows of `context` tokens one epoch has. They lie side by side, from an offset drawn anew per epoch, so
  // that an epoch sees the training text once, but for less than two contexts at its ends.
  int64_t windows_per_epoch(int64_t context) const;
  // The epoch in which step `step` begins, counting from 0.
  int64_t epoch_of(int64_t step, int64_t batch_size, int64_t context) const;
  // The steps in one epoch, as a fraction.
  double steps_per_epoch(int64_t batch_size, int64_t context) const;
  // The training batch of step `step` (from 0): batch_size windows, in a random order of its own in every epoch.
  Batch batch(uint64_t seed, int64_t step, int64_t batch_size, int64_t context) const;

  // How many windows of `context` tokens the validation text has; they don't overlap.
  int64_t validation_windows(int64_t context) const;
  // Batches over the validation text, always the same: all its windows, or max_batches * batch_size of them spread
  // evenly where that is fewer (0: no limit). The last batch may be smaller, so weight means by tokens.numel(). Empty
  // without validation text.
  std::vector<Batch> validation_batches(int64_t batch_size, int64_t context, int64_t max_batches = 0) const;

 private:
  TextData() = default;
  void split(TextDataOptions options, const std::string& source);
  void fill_row(const Batch& batch, int64_t row, int64_t first) const;

  std::string text_;
  std::vector<std::string> files_;
  std::string source_;
  int64_t train_bytes_ = 0;
  uint64_t hash_ = 0;
};

}  // namespace moxie::train
