// Little memory, on the emulation.
#pragma once
#include "cuda/emulation/emulation.h"

namespace rondo::testing {

// So many bytes more of device memory, for a while. (cuBLAS's workspace, once there, stays and is no tensor.)
struct Limit {
  explicit Limit(size_t bytes) {
    size_t free, total;
    cudaMemGetInfo(&free, &total);
    emulation::limit_memory(total - free + bytes);
  }
  ~Limit() { emulation::limit_memory(size_t{1} << 40); }
};

}  // namespace rondo::testing
