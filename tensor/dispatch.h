// From a tensor's device to the tag of its backend. Private to the library: only this file knows what was compiled in.
#pragma once
#include "tensor/check.h"
#include "tensor/device.h"

namespace rondo {

#ifdef RONDO_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif
// In tests: CUDA's kernels run on the host (docs/kernels.md).
#ifdef RONDO_CUDA_EMULATED
inline constexpr bool kCudaIsEmulated = true;
#else
inline constexpr bool kCudaIsEmulated = false;
#endif

template <class F>
decltype(auto) dispatch(Device device, F&& f) {
  if constexpr (kHasCuda)
    if (device == Device::cuda) return f(Cuda{});
  if (device != Device::cpu) check_usable(device);  // it is not, and the message says why
  return f(Cpu{});
}

}  // namespace rondo
