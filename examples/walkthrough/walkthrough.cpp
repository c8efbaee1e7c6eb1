// SPDX-License-Identifier: Apache-2.0
#include "examples/walkthrough/walkthrough.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>

#include "nn/train/device.h"

int walkthrough(int argc, char** argv, const std::string& name, const std::string& about, const std::string& steps,
                Arguments arguments, const std::function<void(const Arguments&)>& body) try {
  arguments.out = std::filesystem::path("runs") / name;
  CLI::App app{about, name};
  app.add_option("--steps", arguments.steps, steps)
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31));
  app.add_option("--seed", arguments.seed, "of the random numbers")->capture_default_str();
  app.add_option("--out", arguments.out, "folder for the pictures")->capture_default_str();
  std::string device = "cpu";
  app.add_option("--device", device, "cpu, cuda or cuda:N, where it is computed")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  }
  arguments.device = moxie::train::device_from_name(device);
  std::filesystem::create_directories(arguments.out);
  body(arguments);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
