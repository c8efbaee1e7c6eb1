// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

#include "core/device.h"

namespace moxie::train {

// "cpu", "cuda" or "cuda:1", as programs take it. Throws std::invalid_argument for another name, and for a GPU where
// moxie was built without CUDA or none is usable.
Device device_from_name(std::string_view name);

}  // namespace moxie::train
