// SPDX-License-Identifier: Apache-2.0
// Errors. Messages read "op: rule, values", so that the reader knows what to change.
#pragma once
#include <fmt/core.h>

#include <utility>

#include "core/errors.h"

namespace moxie {

// Throws std::invalid_argument with the formatted message where the caller broke a rule.
template <class... Args> void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    throw_invalid_argument(fmt::format(format, std::forward<Args>(args)...));
}

// Throws std::logic_error where the library broke a promise to itself.
template <class... Args> void check_internal(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    throw_logic_error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace moxie
