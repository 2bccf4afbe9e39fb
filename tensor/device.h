// Where a tensor lives. Each device has a tag type, which picks the overload of a kernel (see tensor/kernels.h).
#pragma once
#include <cstdint>
#include <ostream>
#include <string>

// Marks functions that both the host's code and a GPU's call.
#ifdef __CUDACC__
#define RONDO_ANYWHERE __host__ __device__
#else
#define RONDO_ANYWHERE
#endif

namespace rondo {

enum class Device : uint8_t { cpu, cuda };
struct Cpu {};
struct Cuda {};

inline std::ostream& operator<<(std::ostream& os, Device d) { return os << (d == Device::cpu ? "cpu" : "cuda"); }

// "cpu" or "cuda", as options and files have it. Throws Error for anything else.
Device device_of(const std::string& name);
// Why tensors cannot be made there, in words: CUDA was not built in, no GPU, a driver too old. Empty where they can.
std::string why_unusable(Device device);
// Throws Error with that.
void check_usable(Device device);
// Whether products of f32 on a GPU may go by its tensor cores, which round what they multiply to 11 bits (TF32):
// several times as fast. For the whole program, as the number of threads is; false at first. The CPU never rounds.
void allow_tf32(bool yes);
bool tf32_allowed();
// What the CPU's kernels were compiled for, and which instructions for bf16 they found, in words: "AVX-512, AMX". An
// installed Rondo may hold several libraries, of which the system picks one for its processor: this tells which.
std::string describe_cpu();
// What CUDA this build has and which GPU it finds, in words; "none" where it has none.
std::string describe_cuda();

}  // namespace rondo
