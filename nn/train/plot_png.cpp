// SPDX-License-Identifier: Apache-2.0
#include "nn/train/plot_png.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>

#include "core/check.h"

// Static, so that a program with its own copy of stb still links.
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>

namespace moxie::train {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw std::runtime_error(fmt::format("save_png: cannot write \"{}\": {}", path.string(), what));
}

// What the system said last; without an answer, a general word.
std::string reason() { return errno != 0 ? std::strerror(errno) : "the file could not be written"; }

}  // namespace

void write_png(const std::filesystem::path& path, int64_t width, int64_t height, std::span<const uint8_t> rgb) {
  check(path.has_filename(), "save_png: the path must name a file, got \"{}\"", path.string());
  check(width >= 1 && height >= 1 && width <= 32768 && height <= 32768,
        "save_png: width and height must be between 1 and 32768 pixels, got {} x {}", width, height);
  check(static_cast<int64_t>(rgb.size()) == width * height * 3, "save_png: {} x {} pixels need {} bytes, got {}", width,
        height, width * height * 3, rgb.size());

  std::string bytes;
  const auto append = [](void* context, void* data, int size) {
    static_cast<std::string*>(context)->append(static_cast<const char*>(data), static_cast<size_t>(size));
  };
  const int w = static_cast<int>(width), h = static_cast<int>(height);
  if (stbi_write_png_to_func(append, &bytes, w, h, 3, rgb.data(), w * 3) == 0) fail(path, "out of memory");

  std::filesystem::path unfinished = path;
  unfinished += ".tmp";
  errno = 0;
  std::ofstream file(unfinished, std::ios::binary | std::ios::trunc);
  if (!file) fail(path, reason());
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  std::error_code ignored, error;
  if (!file) {
    const std::string what = reason();
    std::filesystem::remove(unfinished, ignored);
    fail(path, what);
  }
  std::filesystem::rename(unfinished, path, error);
  if (error) {
    std::filesystem::remove(unfinished, ignored);
    fail(path, error.message());
  }
}

}  // namespace moxie::train
