// The compiler's vector types, as wide as the target's registers. Included only by the CPU kernels and by what measures
// them.
#pragma once
#include <cstdint>

namespace rondo::cpu {

#if defined(__AVX512F__)
inline constexpr int kRegisterBytes = 64;
#elif defined(__AVX__)
inline constexpr int kRegisterBytes = 32;
#else
inline constexpr int kRegisterBytes = 16;
#endif

// A register of T, at an aligned address or at any.
template <class T>
struct Register {
  typedef T type __attribute__((vector_size(kRegisterBytes), may_alias));
  typedef T unaligned __attribute__((vector_size(kRegisterBytes), aligned(sizeof(T)), may_alias));
  static constexpr int64_t length = kRegisterBytes / sizeof(T);
};

}  // namespace rondo::cpu
