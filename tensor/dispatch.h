// From a tensor's device to the tag of its backend. Private to the library: only this file knows what was compiled in.
#pragma once
#include "tensor/check.h"
#include "tensor/device.h"

namespace rondo {

inline constexpr bool kHasCuda = false;

template <class F>
decltype(auto) dispatch(Device device, F&& f) {
  if constexpr (kHasCuda)
    if (device == Device::cuda) return f(Cuda{});
  check(device == Device::cpu, "this build of Rondo has no ", device, " backend");
  return f(Cpu{});
}

}  // namespace rondo
