// Products of bf16 on tensor cores, a warp each (mma.sync m16n8k16): tiles in shared memory, sums in registers.
// docs/kernels.md draws who holds what.
#pragma once
#include "cuda/launch.cuh"

namespace rondo::cuda {

// Rows of bf16, as bits. 16 bytes more than a row needs, so that the eight rows that are read at once lie in different
// banks.
template <int kRows, int kWidth>
struct alignas(16) MmaTile {
  uint16_t rows[kRows][kWidth + 8];
};

// Starts the copies of n rows of d numbers, one after another in memory, by all threads of the block. What is missing
// to the tile's size is zeros.
template <int kThreads, int kRows, int kWidth>
__device__ void copy_rows_async(const bf16* from, int n, int d, MmaTile<kRows, kWidth>& to) {
  constexpr int kPieces = kWidth / 8, kStep = kThreads / kPieces;  // 16 bytes a thread, so many rows at a time
  static_assert(kThreads % kPieces == 0 && kRows % kStep == 0);
  const int column = int(threadIdx.x) % kPieces * 8;
#pragma unroll
  for (int i = 0; i < kRows; i += kStep) {
    const int row = i + int(threadIdx.x) / kPieces;
    const bool there = row < n && column < d;
    copy_async(&to.rows[row][column], from + (there ? row * d + column : 0), there);
  }
}

// What a thread holds of 16 kM x 8 kN sums: of each 16 x 8 the four at (sum_row(0), sum_column(0)), (.., + 1) and the
// same eight rows below.
template <int kM, int kN>
using Sums = float[kM][kN][4];
__device__ inline int sum_row(int m, int e) { return 16 * m + int(threadIdx.x) % 32 / 4 + 8 * (e / 2); }
__device__ inline int sum_column(int n, int e) { return 8 * n + 2 * (int(threadIdx.x) % 4) + e % 2; }
// And of 16 kM x 16 kK numbers on the left of a product.
template <int kM, int kK>
using Left = uint32_t[kM][kK][4];

// 16 x 16 numbers of a tile, as a left side.
template <class Tile>
__device__ void load_left(const Tile& tile, int row, int column, uint32_t (&left)[4]) {
  const int lane = int(threadIdx.x) % 32;
  load_matrices(left, &tile.rows[row + lane % 16][column + lane / 16 * 8]);
}
template <int kM, int kK, class Tile>
__device__ void load_left(const Tile& tile, int row, Left<kM, kK>& left) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int k = 0; k < kK; ++k) load_left(tile, row + 16 * m, 16 * k, left[m][k]);
}

// Sums, rounded, as the left side of the next product: they already lie where they must.
template <int kM, int kN>
__device__ void round_to_left(const float (&sums)[kM][kN][4], uint32_t (&left)[kM][kN / 2][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int h = 0; h < 2; ++h) left[m][n / 2][n % 2 * 2 + h] = pack_bf16(sums[m][n][2 * h], sums[m][n][2 * h + 1]);
}

// sums += left * right^T over kWidth columns: right's first 8 kN rows are what is multiplied with. left(m, k, a) gives
// the numbers of rows 16 m.., columns 16 k...
template <int kM, int kN, int kRows, int kWidth, class LeftSide>
__device__ void add_dots(const LeftSide& left, const MmaTile<kRows, kWidth>& right, float (&sums)[kM][kN][4]) {
  static_assert(kRows >= 8 * kN);
  const int lane = int(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    uint32_t a[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) left(m, k, a[m]);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t b[4];
      load_matrices(b, &right.rows[8 * n + lane % 8 + lane / 16 * 8][16 * k + lane / 8 % 2 * 8]);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma_16x8x16(sums[m][n], a[m], {b[0], b[1]});
        mma_16x8x16(sums[m][n + 1], a[m], {b[2], b[3]});
      }
    }
  }
}

// sums += left * right over right's first 16 kK rows.
template <int kM, int kN, int kK, int kRows, int kWidth>
__device__ void add_weighted(const uint32_t (&left)[kM][kK][4], const MmaTile<kRows, kWidth>& right,
                             float (&sums)[kM][kN][4]) {
  static_assert(kRows >= 16 * kK && kWidth == 8 * kN);
  const int lane = int(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < kK; ++k)
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t b[4];
      load_matrices_transposed(b, &right.rows[16 * k + lane % 16][8 * n + lane / 16 * 8]);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma_16x8x16(sums[m][n], left[m][k], {b[0], b[1]});
        mma_16x8x16(sums[m][n + 1], left[m][k], {b[2], b[3]});
      }
    }
}

// sums += the sums of left's rows, each in all columns.
template <int kM, int kK>
__device__ void add_up(const uint32_t (&left)[kM][kK][4], float (&sums)[kM][4]) {
  constexpr uint32_t kOnes = 0x3f803f80;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int k = 0; k < kK; ++k) mma_16x8x16(sums[m], left[m][k], {kOnes, kOnes});
}

// A left side that stays in registers (load_left above), or is read from its tile each time.
template <int kM, int kK>
struct InRegisters {
  const uint32_t (&left)[kM][kK][4];
  __device__ void operator()(int m, int k, uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = left[m][k][i];
  }
};
template <class Tile>
struct InTile {
  const Tile& tile;
  int row;
  __device__ void operator()(int m, int k, uint32_t (&a)[4]) const { load_left(tile, row + 16 * m, 16 * k, a); }
};

}  // namespace rondo::cuda
