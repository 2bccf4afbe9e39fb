#include "cuda/context.h"

#include <cuda_runtime.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <unordered_map>

#include "cuda/device.cuh"
#include "tensor/check.h"
#include "tensor/device.h"

namespace rondo::cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// What CUDA the driver is for, or 0 where there is none. Does not wake it up.
int driver_version() {
  int version = 0;
  cudaDriverGetVersion(&version);
  return version;
}

const char* const kNoDriver = "there is no driver for NVIDIA's GPUs here";

// From the driver's files: the driver itself takes longer to wake up than a program to say its version.
std::string gpu_names() {
  std::string names;
  std::error_code ignored;
  for (const auto& gpu : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", ignored)) {
    std::ifstream file(gpu.path() / "information");
    std::string line;
    if (!std::getline(file, line)) continue;  // "Model:   NVIDIA H200"
    const size_t name = line.find_first_not_of(" \t", line.find(':') + 1);
    if (name != line.npos) names += (names.empty() ? "" : ", ") + line.substr(name);
  }
  return names;
}

int chosen_gpu = 0;

int attribute(cudaDeviceAttr which) {
  int value = 0;
  checked(cudaDeviceGetAttribute(&value, which, chosen_gpu), "cudaDeviceGetAttribute");
  return value;
}

cudaStream_t open() {
  check_usable(Device::cuda);
  checked(cudaSetDevice(chosen_gpu), "cudaSetDevice");
  cudaStream_t stream = nullptr;
  checked(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}

}  // namespace

CUstream_st* stream() {
  static const cudaStream_t opened = open();  // lives as long as the program: tensors may outlive every static
  thread_local const bool chosen = [] {       // CUDA keeps the choice for each thread
    checked(cudaSetDevice(chosen_gpu), "cudaSetDevice");
    return true;
  }();
  static_cast<void>(chosen);
  return opened;
}

bool starts_early() {
  static const bool can = attribute(cudaDevAttrComputeCapabilityMajor) >= 9;
  return can;
}

bool reads_host_memory() {
  static const bool reads = attribute(cudaDevAttrPageableMemoryAccessUsesHostPageTables) != 0;
  return reads;
}

void allow_shared(const void* kernel, size_t bytes) {
  static std::mutex mutex;
  static std::unordered_map<const void*, size_t> allowed;
  const std::lock_guard lock(mutex);
  size_t& most = allowed[kernel];
  if (bytes <= most) return;
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
  check(status == cudaSuccess, "CUDA: a kernel needs ", bytes, " bytes of shared memory: ", cudaGetErrorString(status));
  most = bytes;
}

void choose_gpu(int index) {
  int n = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) check_usable(Device::cuda);  // says why
  check(index < n, "this rank is to use GPU ", index, " of its machine, which has ", n, n == 1 ? " GPU" : " GPUs",
        "; set LOCAL_RANK, from 0 on each machine");
  chosen_gpu = index;
  check_usable(Device::cuda);
}

std::string why_unusable() {
  const int driver = driver_version();
  if (driver == 0) return kNoDriver;
  int n = 0;
  const cudaError_t found = cudaGetDeviceCount(&n);
  if (found == cudaErrorInsufficientDriver)
    return "the driver is for CUDA " + version_text(driver) + ", but this build is of CUDA " +
           version_text(CUDART_VERSION) + " (update the driver)";
  if (found == cudaErrorNoDevice || (found == cudaSuccess && n == 0)) return "there is no GPU here";
  if (found != cudaSuccess) return std::string("cudaGetDeviceCount: ") + cudaGetErrorString(found);
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, chosen_gpu);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, chosen_gpu);
  if (major < 8)
    return "the GPU has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
           ", and the kernels need 8.0 or later";
  return "";
}

std::string describe() {
  std::string text = version_text(CUDART_VERSION) + " for";
  for (const int target : {__CUDA_ARCH_LIST__}) text += " sm_" + std::to_string(target / 10);
  if (const std::string names = gpu_names(); !names.empty()) return text + "; " + names;
  const int driver = driver_version();  // which opens the driver: that alone can take a tenth of a second
  return text + "; " + (driver == 0 ? kNoDriver : "driver for CUDA " + version_text(driver));
}

}  // namespace rondo::cuda
