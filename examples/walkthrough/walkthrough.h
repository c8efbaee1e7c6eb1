// SPDX-License-Identifier: Apache-2.0
// What the walkthroughs share: the command line, and the folder for their pictures.
#pragma once
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "core/device.h"

struct Arguments {
  int64_t steps = 0;
  uint64_t seed = 1;
  std::filesystem::path out{};
  moxie::Device device{};

  // True about `times` times in `steps` steps, and in the first and the last one: when to print a line of progress.
  bool reports(int64_t step, int64_t times = 10) const {
    return step == 0 || step == steps - 1 || (step + 1) % std::max<int64_t>(1, steps / times) == 0;
  }
};

// Reads --steps, --seed, --out and --device, makes the folder and runs `body`; `arguments` are the defaults. The exit
// status: 1 where an argument is wrong or something failed.
int walkthrough(int argc, char** argv, const std::string& name, const std::string& about, const std::string& steps,
                Arguments arguments, const std::function<void(const Arguments&)>& body);
