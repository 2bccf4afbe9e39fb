// Where a tensor lives. Each device has a tag type, which picks the overload of a kernel (see tensor/kernels.h).
#pragma once
#include <cstdint>
#include <ostream>

namespace rondo {

enum class Device : uint8_t { cpu, cuda };
struct Cpu {};
struct Cuda {};

inline std::ostream& operator<<(std::ostream& os, Device d) { return os << (d == Device::cpu ? "cpu" : "cuda"); }

}  // namespace rondo
