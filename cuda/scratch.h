// SPDX-License-Identifier: Apache-2.0
// Memory of the device for the time of one call.
#pragma once
#include "core/cuda.h"

namespace moxie::cuda {

// `count` numbers; given back, in the order of the stream, at the end of the scope.
template <class T> class Scratch final {
 public:
  Scratch(int device, int64_t count)
      : device_(device),
        bytes_(count * static_cast<int64_t>(sizeof(T))),
        data_(bytes_ > 0 ? allocate(device, bytes_) : nullptr) {}
  ~Scratch() {
    if (data_ != nullptr) free(device_, data_, bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return reinterpret_cast<T*>(data_); }

 private:
  int device_;
  int64_t bytes_;
  std::byte* data_;
};

}  // namespace moxie::cuda
