// SPDX-License-Identifier: Apache-2.0
// The byte tokenizer: every byte of a text is a token. Nothing to train, no text that it can't encode.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moxie::train {

struct ByteTokenizer {
  static constexpr int64_t vocabulary = 256;

  // One token from 0 to 255 per byte.
  static std::vector<int32_t> encode(std::string_view text);
  // The bytes of the tokens. Throws std::invalid_argument for a token outside [0, 256).
  static std::string decode(const std::vector<int32_t>& tokens);
  // A short name of a token in plain ASCII, for axes and tables: "a", "space", "\n", "\xe2".
  static std::string name(int32_t token);
};

// The text as it may be shown on a terminal: line ends, tabs and valid UTF-8 stay; other control characters (which
// could steer the terminal) and bytes that are no UTF-8 become U+FFFD.
std::string printable(std::string_view text);

}  // namespace moxie::train
