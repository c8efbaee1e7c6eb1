// SPDX-License-Identifier: Apache-2.0
// Writes pixels as a PNG file.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>

namespace moxie::train {

// Writes rows of RGB bytes, [height, width, 3] from the top, to `path`: first to `path` + ".tmp", then renamed, so that
// nobody ever reads half a file. Throws std::invalid_argument for an empty path or sizes that do not fit, and
// std::runtime_error with the path where writing fails (no such folder, disk full).
void write_png(const std::filesystem::path& path, int64_t width, int64_t height, std::span<const uint8_t> rgb);

}  // namespace moxie::train
