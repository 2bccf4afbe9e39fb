// Tiles of 64 x 64 numbers in shared memory and their products, by 16 x 16 threads: thread (y, x) holds 4 x 4 numbers
// of a result in registers, so that a number out of shared memory is used four times.
#pragma once
#include "cuda/launch.cuh"

namespace rondo::cuda {

inline constexpr int kTile = 64, kSide = 16, kEach = kTile / kSide;
static_assert(kSide * kSide == kThreads);

// Blocks that a processor shall hold at once: the registers of a thread are limited to what that leaves.
template <class T>
inline constexpr int kPerProcessor = sizeof(T) == 4 ? 2 : 1;

__device__ inline int tile_y(int i) { return int(threadIdx.x) / kSide + kSide * i; }  // row of a thread's i-th
__device__ inline int tile_x(int i) { return int(threadIdx.x) % kSide + kSide * i; }  // column of a thread's i-th

template <class T>
struct alignas(16) Pack {  // what one load reads
  static constexpr int n = 16 / int(sizeof(T));
  T at[n];
};
// The right side of a product has a pack more than a row needs, so that rows begin in different banks. Of the left one
// threads side by side read the same pack: LeftTile.
template <class T, int kMore = 1>
struct Tile {
  static constexpr int packs = kTile / Pack<T>::n;
  Pack<T> rows[kTile][packs + kMore];

  __device__ T& at(int row, int column) { return rows[row][column / Pack<T>::n].at[column % Pack<T>::n]; }
};
template <class T>
using LeftTile = Tile<T, 0>;
// What a thread holds of a result: rows tile_y(i), columns tile_x(j), or packed_column(j) where they are read as packs.
template <class T>
using Part = T[kEach][kEach];
template <class T>
__device__ int packed_column(int i) {
  return tile_x(i / Pack<T>::n) * Pack<T>::n + i % Pack<T>::n;
}

// Blocks for so many tiles of rows of D numbers, by the tiles that D is cut into.
inline dim3 tile_grid(int64_t tiles, int64_t d) { return {unsigned(tiles), unsigned((d + kTile - 1) / kTile)}; }

// Rows of D numbers that lie one after another; past the n-th a tile is filled with zeros.
template <class T>
struct Matrix {
  const T* data;
  int n;
  int64_t d;
};
// The columns column..column+63 of the first 64 rows.
template <class T, int kMore>
__device__ void load(const Matrix<T>& from, int64_t column, Tile<T, kMore>& tile) {
  constexpr int step = kThreads / kTile;
  const int c = int(threadIdx.x) % kTile;
  const bool inside = column + c < from.d;
  const T* p = from.data + int(threadIdx.x) / kTile * from.d + column + c;
#pragma unroll 4
  for (int r = int(threadIdx.x) / kTile; r < kTile; r += step, p += step * from.d)
    tile.at(r, c) = inside && r < from.n ? *p : T(0);
}

// result[i][j] += <row i of a, row j of b>
template <class T>
__device__ void add_dots(const LeftTile<T>& a, const Tile<T>& b, Part<T>& result) {
#pragma unroll 1
  for (int k = 0; k < Tile<T>::packs; ++k) {
    Pack<T> left[kEach], right[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) left[i] = a.rows[tile_y(i)][k], right[i] = b.rows[tile_x(i)][k];
#pragma unroll
    for (int i = 0; i < kEach; ++i)
#pragma unroll
      for (int j = 0; j < kEach; ++j)
#pragma unroll
        for (int e = 0; e < Pack<T>::n; ++e) result[i][j] += left[i].at[e] * right[j].at[e];
  }
}

// result[i][j] += <row i of a, column packed_column(j) of b>
template <class T>
__device__ void add_weighted(const LeftTile<T>& a, const Tile<T>& b, Part<T>& result) {
  constexpr int n = Pack<T>::n;
#pragma unroll 1
  for (int k = 0; k < Tile<T>::packs; ++k) {
    Pack<T> left[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) left[i] = a.rows[tile_y(i)][k];
#pragma unroll
    for (int e = 0; e < n; ++e)
#pragma unroll
      for (int p = 0; p < kEach / n; ++p) {
        const Pack<T> right = b.rows[k * n + e][tile_x(p)];
#pragma unroll
        for (int i = 0; i < kEach; ++i)
#pragma unroll
          for (int j = 0; j < n; ++j) result[i][p * n + j] += left[i].at[e] * right.at[j];
      }
  }
}

// result[i][j] = <row i of left, row j of right> over all their columns, a tile's width at a time; both are left in
// their tiles when that is all of them. `kept`: left is there from the last call.
template <class T>
__device__ void dots(const Matrix<T>& left, bool kept, LeftTile<T>& a, const Matrix<T>& right, Tile<T>& b,
                     Part<T>& result) {
#pragma unroll
  for (int i = 0; i < kEach * kEach; ++i) result[i / kEach][i % kEach] = T(0);
  for (int64_t column = 0; column < left.d; column += kTile) {
    __syncthreads();  // whoever still reads these tiles
    if (!kept || left.d > kTile) load(left, column, a);
    load(right, column, b);
    __syncthreads();
    add_dots(a, b, result);
  }
}

// The columns column..column+63 of the first 64 rows of y [n, d] = the thread's parts of them.
template <class T>
__device__ void store(const Part<T>& part, int64_t column, T* y, int64_t n, int64_t d) {
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int64_t r = tile_y(i), c = column + packed_column<T>(j);
      if (r < n && c < d) y[r * d + c] = part[i][j];
    }
}

}  // namespace rondo::cuda
