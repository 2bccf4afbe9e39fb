// Products of tiles: 16 rows of 64 bytes, eight of which AMX holds (Intel's manual, volume 1, chapter 18).
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

#if defined(__x86_64__)
#define RONDO_TILES __attribute__((target("amx-tile,amx-bf16")))
#else
#define RONDO_TILES
#endif

namespace rondo::cpu {

inline constexpr int64_t kTileRows = 16, kTilePairs = 16;  // a tile of C is 16 x 16 sums; one of A or B, 16 x 16 pairs

#if defined(__x86_64__)
// The processor's tile registers, between open() and close(). Tests have others, to follow the same steps anywhere.
struct TileRegisters {
  RONDO_TILES static void open() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shapes;
    asm volatile("ldtilecfg %0" ::"m"(shapes));
  }
  RONDO_TILES static void close() { asm volatile("tilerelease"); }
  template <int tile>
  RONDO_TILES static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(tile));
  }
  template <int tile>
  RONDO_TILES static void load(const void* p, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  RONDO_TILES static void stream(const void* p, int64_t stride) {  // as load, but soon forgotten by the cache
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  RONDO_TILES static void store(void* p, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(tile) : "memory");
  }
  template <int c, int a, int b>
  RONDO_TILES static void multiply() {  // c += a b, two products to a sum
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
  }
};
#endif

// C [32, 16 * N] (+)= A [32, 2k] B for one panel B of pairs [k, 16 * N]; k is a multiple of 16. Rows of A lie `stride`
// numbers apart. B stays in the cache for the next rows of A, which pass by it. `lines` lines from `ahead` on are asked
// for at every step.
template <class Registers, int N>
RONDO_TILES void tile_product(int64_t k, const bf16* a, int64_t stride, const uint32_t* b, float* c, int64_t ldc,
                              bool accumulate, const uint32_t* ahead, int64_t lines) {
  using R = Registers;
  const auto part_of_c = [=](int64_t i, int64_t j) { return c + i * kTileRows * ldc + j * kTilePairs; };
  if (accumulate) {
    R::template load<0>(part_of_c(0, 0), 4 * ldc);
    R::template load<2>(part_of_c(1, 0), 4 * ldc);
    if constexpr (N == 2) R::template load<1>(part_of_c(0, 1), 4 * ldc), R::template load<3>(part_of_c(1, 1), 4 * ldc);
  } else {
    R::template zero<0>(), R::template zero<1>(), R::template zero<2>(), R::template zero<3>();
  }
  for (int64_t p = 0; p < k; p += kTilePairs) {
    R::template stream<4>(a + 2 * p, 2 * stride);
    R::template stream<5>(a + kTileRows * stride + 2 * p, 2 * stride);
    R::template load<6>(b + p * N * kTilePairs, 64 * N);
    R::template multiply<0, 4, 6>();
    R::template multiply<2, 5, 6>();
    if constexpr (N == 2) {
      R::template load<7>(b + p * N * kTilePairs + kTilePairs, 64 * N);
      R::template multiply<1, 4, 7>();
      R::template multiply<3, 5, 7>();
    }
    for (int64_t line = 0; line < lines; ++line, ahead += kTilePairs) __builtin_prefetch(ahead, 0, 2);
  }
  R::template store<0>(part_of_c(0, 0), 4 * ldc);
  R::template store<2>(part_of_c(1, 0), 4 * ldc);
  if constexpr (N == 2) R::template store<1>(part_of_c(0, 1), 4 * ldc), R::template store<3>(part_of_c(1, 1), 4 * ldc);
}

}  // namespace rondo::cpu
