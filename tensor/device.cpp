#include "tensor/device.h"

#include <atomic>

#include "cuda/context.h"
#include "tensor/dispatch.h"

namespace rondo {
namespace {
std::atomic<bool> tf32 = false;
}

Device device_of(const std::string& name) {
  for (const Device d : {Device::cpu, Device::cuda})
    if (name == (d == Device::cpu ? "cpu" : "cuda")) return d;
  fail("a device is cpu or cuda, not ", name);
}

std::string why_unusable(Device device) {
  if (device == Device::cpu) return "";
  if constexpr (kHasCuda)
    return cuda::why_unusable();
  else
    return "this build of Rondo has no CUDA";
}

void check_usable(Device device) {
  const std::string why = why_unusable(device);
  check(why.empty(), "the device ", device, " cannot be used: ", why, "; use the device cpu");
}

void allow_tf32(bool yes) { tf32 = yes; }
bool tf32_allowed() { return tf32; }

std::string describe_cuda() {
  if constexpr (kHasCuda)
    return cuda::describe();
  else
    return "none";
}

}  // namespace rondo
