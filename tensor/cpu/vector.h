// The compiler's vector types, as wide as the target's registers. Included only by the CPU kernels, and by what
// measures them or tells of them.
#pragma once
#include <cstdint>
#include <utility>

#if defined(__FMA__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_FMA)
#include <arm_neon.h>
#endif

namespace rondo::cpu {

#if defined(__AVX512F__)
inline constexpr int kRegisterBytes = 64;
inline constexpr const char* kRegisterName = "AVX-512";
#elif defined(__AVX__)
inline constexpr int kRegisterBytes = 32;
inline constexpr const char* kRegisterName = "AVX";
#else
inline constexpr int kRegisterBytes = 16;
inline constexpr const char* kRegisterName = "128-bit vectors";
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kRegisters = 32;  // that there are
#else
inline constexpr int kRegisters = 16;
#endif

// A register of T, at an aligned address or at any.
template <class T>
struct Register {
  typedef T type __attribute__((vector_size(kRegisterBytes), may_alias));
  typedef T unaligned __attribute__((vector_size(kRegisterBytes), aligned(sizeof(T)), may_alias));
  static constexpr int64_t length = kRegisterBytes / sizeof(T);
};

// Transposes a square of registers: neighbours change places, then pairs of them, then fours ...
template <class T, int apart = 1>
__attribute__((always_inline)) inline void transpose_square(typename Register<T>::type* rows) {
  constexpr int length = Register<T>::length;
  if constexpr (apart < length) {
    const auto exchange = [&]<int... i>(auto& a, auto& b, std::integer_sequence<int, i...>) {
      const auto above = a, below = b;
      a = __builtin_shufflevector(above, below, (i & apart ? length + i - apart : i)...);
      b = __builtin_shufflevector(above, below, (i & apart ? length + i : i + apart)...);
    };
#pragma GCC unroll 16
    for (int r = 0; r < length; ++r)
      if (!(r & apart)) exchange(rows[r], rows[r + apart], std::make_integer_sequence<int, length>());
    transpose_square<T, 2 * apart>(rows);
  }
}

// a b + c, rounded once where the processor has an instruction for it. Compilers fuse the plain form in one place and
// not in another, so code that must give the same bits in several places calls this.
template <class V>
V multiply_add(V a, V b, V c) {
  return a * b + c;
}
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
using Floats = Register<float>::type;
using Doubles = Register<double>::type;
inline float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }
#if defined(__AVX512F__)
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
#elif defined(__FMA__)
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
#else
inline Floats multiply_add(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
inline Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return vfmaq_f64(c, a, b); }
#endif
#endif

}  // namespace rondo::cpu
