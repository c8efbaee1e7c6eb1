// SPDX-License-Identifier: Apache-2.0
// What the library throws. Apart from check.h, since CUDA sources can't include fmt.
#pragma once
#include <stdexcept>
#include <string>

namespace moxie {

// A call of the CUDA driver or one of its libraries failed, or a kernel did: the message names the call or the kernel
// and the shape of its launch. Kernels run behind the program: an error of one may appear in a later call.
class CudaError final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] void throw_invalid_argument(const std::string& message);
[[noreturn]] void throw_logic_error(const std::string& message);

}  // namespace moxie
