// The compiler's vector types, as wide as the target's registers. Included only by the CPU kernels, and by what
// measures them or tells of them.
#pragma once
#include <cstdint>

#if defined(__FMA__)
#include <immintrin.h>
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

// A register of T, at an aligned address or at any.
template <class T>
struct Register {
  typedef T type __attribute__((vector_size(kRegisterBytes), may_alias));
  typedef T unaligned __attribute__((vector_size(kRegisterBytes), aligned(sizeof(T)), may_alias));
  static constexpr int64_t length = kRegisterBytes / sizeof(T);
};

// a b + c, rounded once where the processor has an instruction for it. Compilers make that of the plain form in one
// place and not in the next, so it is named where the same sum is made in several places.
template <class V>
V multiply_add(V a, V b, V c) {
  return a * b + c;
}
#if defined(__FMA__)
inline float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }
#if defined(__AVX512F__)
inline __m512 multiply_add(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
inline __m512d multiply_add(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }
#else
inline __m256 multiply_add(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
inline __m256d multiply_add(__m256d a, __m256d b, __m256d c) { return _mm256_fmadd_pd(a, b, c); }
#endif
#endif

}  // namespace rondo::cpu
