// Where a tensor lives. Each device has a tag type, which picks the overload of a kernel (see tensor/kernels.h).
#pragma once
#include <cstdint>
#include <ostream>

// Marks what GPU code calls as well as the host's.
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

}  // namespace rondo
