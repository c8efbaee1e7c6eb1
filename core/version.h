// SPDX-License-Identifier: Apache-2.0
// The version of the library. This is the only place that states it: CMake reads it here.
#pragma once
#include <string_view>

namespace moxie {

// "major.minor.patch". Until 1.0 a new minor version may change names; checkpoints have a version of their own.
inline constexpr std::string_view library_version = "0.1.0";

}  // namespace moxie
