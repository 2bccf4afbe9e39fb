// What every kernel file includes. One source, two worlds: nvcc makes GPU code of it, a C++ compiler a test of it
// (emulation/emulation.h). The only place that tells them apart.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/check.h"
#ifdef __CUDACC__
#include <cuda_runtime.h>

namespace rondo::cuda {

struct Launch {
  dim3 grid, block;
  size_t shared = 0;
  cudaStream_t stream = nullptr;
  bool early = false;  // may start while the kernel before it runs: it calls wait_for_previous_grid
};
bool starts_early();  // whether the device can: since sm_90
// A kernel's blocks may have so many bytes of shared memory from here on. Never less again: a graph may hold them.
void allow_shared(const void* kernel, size_t bytes);

// launch({grid, block, sizeof(Shared)}, kernel<float>, x, y, n): in place of <<<>>>, which only nvcc can parse.
template <class... P, class... A>
void launch(Launch l, void (*kernel)(P...), const A&... args) {
  if (l.shared > 48 * 1024) allow_shared(reinterpret_cast<const void*>(kernel), l.shared);
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = l.grid, config.blockDim = l.block, config.dynamicSmemBytes = l.shared, config.stream = l.stream;
  config.attrs = &early, config.numAttrs = l.early && starts_early() ? 1 : 0;
  const cudaError_t e = cudaLaunchKernelEx(&config, kernel, P(args)...);
  check(e == cudaSuccess, "CUDA: a kernel could not be launched: ", cudaGetErrorString(e));
}

// All the shared memory of a block is one struct T, as large as the launch says.
template <class T>
__device__ T& shared() {
  extern __shared__ __align__(128) unsigned char bytes[];
  return *reinterpret_cast<T*>(bytes);
}

}  // namespace rondo::cuda
#include "cuda/ptx.cuh"
#else
#include "cuda/emulation/emulation.h"
#endif

namespace rondo::cuda {

inline void checked(cudaError_t status, const char* call) {
  check(status == cudaSuccess, "CUDA: ", call, ": ", cudaGetErrorString(status));
}

}  // namespace rondo::cuda
