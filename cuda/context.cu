#include "cuda/context.h"

#include <cuda_runtime.h>

#include "tensor/check.h"

namespace rondo::cuda {
namespace {

cudaStream_t open() {
  int n = 0;
  const cudaError_t found = cudaGetDeviceCount(&n);
  check(found != cudaErrorInsufficientDriver, "CUDA: the driver is older than this build's CUDA ",
        CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10, "; update it, or use the device cpu");
  check(found == cudaSuccess && n > 0, "CUDA: there is no GPU here (", cudaGetErrorString(found),
        "); use the device cpu");
  cudaStream_t stream = nullptr;
  const cudaError_t made = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  check(made == cudaSuccess, "CUDA: cudaStreamCreateWithFlags: ", cudaGetErrorString(made));
  return stream;
}

}  // namespace

CUstream_st* stream() {
  static const cudaStream_t opened = open();  // lives as long as the program: tensors may outlive every static
  return opened;
}

}  // namespace rondo::cuda
