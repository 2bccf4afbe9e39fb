// Rounding rows of f32 to bf16.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace rondo::cpu {

// y[i] = x[i] rounded, by the processor's own instruction where there is one.
inline void round_row(int64_t n, const float* x, bf16* y) {
  int64_t rounded = 0;
#if defined(__AVX512BF16__)
  constexpr int kSubnormal = 0x20;  // which the instruction takes for zeros
  rounded = n / 16 * 16;
  for (int64_t i = 0; i < rounded; i += 16) {
    const __m512 numbers = _mm512_loadu_ps(x + i);
    if (_mm512_fpclass_ps_mask(numbers, kSubnormal)) [[unlikely]]
      for (int64_t j = i; j < i + 16; ++j) y[j] = bf16(x[j]);
    else
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), (__m256i)_mm512_cvtneps_pbh(numbers));
  }
#endif
  for (int64_t i = rounded; i < n; ++i) y[i] = bf16(x[i]);
}

}  // namespace rondo::cpu
