// SPDX-License-Identifier: Apache-2.0
#include "nn/train/device.h"

#include <charconv>

#include "core/check.h"

namespace moxie::train {

Device device_from_name(std::string_view name) {
  if (name == "cpu") return Device::cpu();
  int index = 0;
  bool known = name == "cuda";
  if (constexpr std::string_view prefix = "cuda:"; name.starts_with(prefix)) {
    const char *first = name.data() + prefix.size(), *last = name.data() + name.size();
    const auto [stop, error] = std::from_chars(first, last, index);
    known = error == std::errc{} && stop == last && index >= 0;
  }
  check(known, "device: must be cpu, cuda or cuda:N, got '{}'", name);
  check(Device::has_cuda(), "device: '{}' can't be used: {}", name,
#ifdef MOXIE_CUDA
        "there is no GPU that this program can use; nvidia-smi shows what the driver sees"
#else
        "this program was built without CUDA; configure with the preset 'cuda', or use cpu"
#endif
  );
  return Device::cuda(index);
}

}  // namespace moxie::train
