// A few rows times weights, as in decoding: y [m, n] = x [m, k] W^T. A block makes the rows of x in shared memory,
// whatever they come of; then each of its warps reads a row of W once, where it lies, in whatever type it is kept.
#pragma once
#include <bit>
#include <cmath>

#include "cuda/block.cuh"
#include "cuda/pack.cuh"

namespace rondo::cuda {

inline constexpr int kSlab = 2048;  // numbers of a row of x that are there at a time

// The numbers of x in shared memory, by their place in a load of W, then by the load: lanes side by side, which have
// loads side by side, find theirs in different banks, wherever in a row the first whole load begins.
template <int kPer>
struct Spread {
  int loads;
  __device__ __host__ explicit Spread(int64_t k)
      : loads(int((k < kSlab ? k : kSlab) + 32 * kPer - 1) / (32 * kPer) * 32 + 32 / kPer) {}
  __device__ int at(unsigned i) const { return int(i % kPer) * loads + int(i / kPer); }
  __device__ __host__ int size() const { return kPer * loads; }
};

// A warp's view of `width` numbers of a row of W. Rows begin anywhere: whole loads, of 16 bytes, begin at the first
// multiple of 16, and the loose numbers before and behind them are a lane's each. kAhead loads of a lane are on their
// way at once.
template <class W, int kAhead>
struct WeightRow {
  static constexpr int kPer = kPerLoad<W>;
  const uint4* whole;
  int head, loads, loose;  // loose: the lane's number, or -1
  uint4 held[kAhead];
  W loose_number;

  __device__ WeightRow(const W* row, int width) {
    const int lane = int(threadIdx.x % 32), before = int(reinterpret_cast<uintptr_t>(row) % 16);
    head = min((16 - before) % 16 / int(sizeof(W)), width);
    loads = (width - head) / kPer;
    loose = lane < head ? lane : lane + loads * kPer < width ? lane + loads * kPer : -1;
    if (loose >= 0) loose_number = row[loose];
    whole = reinterpret_cast<const uint4*>(row + head);
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      if (const int at = lane + 32 * a; at < loads) held[a] = __ldg(whole + at);
  }
  // sums[r] += this * row r of x, for n_rows rows.
  template <int kRows, class T>
  __device__ void multiply(const T* x, Spread<kPer> spread, int n_rows, T (&sums)[kRows]) {
    const auto over_rows = [&](const auto& f) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= n_rows) break;
        f(x + r * spread.size(), sums[r]);
      }
    };
    if (loose >= 0)
      over_rows([&](const T* row, T& sum) { sum = std::fma(row[spread.at(loose)], T(loose_number), sum); });
#pragma unroll 1
    for (int first = int(threadIdx.x % 32); first < loads; first += 32 * kAhead)
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const int at = first + 32 * a, next = at + 32 * kAhead;
        if (at >= loads) break;
        const auto numbers = std::bit_cast<Numbers<W, kPer>>(held[a]);
        if (next < loads) held[a] = __ldg(whole + next);
        over_rows([&](const T* row, T& sum) {
#pragma unroll
          for (int e = 0; e < kPer; ++e) sum = std::fma(row[spread.at(head + e) + at], T(numbers.at[e]), sum);
        });
      }
  }
};

// Up to three products of the same x, whose columns are counted one after the other.
template <class T, class W>
struct Products {
  struct One {
    const W* weight;
    const T *scale, *residual;
    T* y;
    int n;
  } of[3];
  // The one whose column this is; j is then its column there.
  __device__ One at(int& j) const {
    if (j < of[0].n) return of[0];
    j -= of[0].n;
    if (j < of[1].n) return of[1];
    j -= of[1].n;
    return of[2];
  }
};

// source(row, f, thread, threads, put) calls put(i, x) for the numbers f.first <= i < f.end of a row that fall to one
// of some threads, whole warps; so many blocks with one row of f32 are to share a processor. Multiply-adds are named as
// such, since a compiler makes them in one place and not in the next: a row's bits depend on no other row.
struct Range {
  int first, end;
};
template <int kRows, class T, class W, class Source>
__global__ void __launch_bounds__(kThreads, kRows == 1 && sizeof(T) == 4 ? Source::kBlocks : 2)
    gemv_kernel(int m, int n, int k, Source source, Products<T, W> products) {
  constexpr int kWarps = kThreads / 32, kAhead = (kRows == 1 ? 4 : 2) / (sizeof(W) == 1 ? 2 : 1);
  static_assert(kRows == 1 || kRows == kWarps);
  const Spread<kPerLoad<W>> spread(k);
  T* const numbers = &shared<T>();
  const int lane = int(threadIdx.x % 32), warp = int(threadIdx.x / 32);
  for (int block = int(blockIdx.x); block * kWarps < n; block += int(gridDim.x)) {
    int j = block * kWarps + warp;
    const bool there = j < n;
    const auto p = products.at(j);
    for (int row = 0; row < m; row += kRows) {
      const int n_rows = min(m - row, kRows);
      const bool mine = there && lane < n_rows;  // a row of x a lane
      const int64_t at = int64_t(row + lane) * p.n + j;
      T sums[kRows] = {}, scale = 1, before = 0;
      for (int slab = 0; slab == 0 || slab < k; slab += kSlab) {
        const int width = min(k - slab, kSlab);
        // Read while x is made.
        WeightRow<W, kAhead> w(there ? p.weight + int64_t(j) * k + slab : p.weight, there ? width : 0);
        if (block == int(blockIdx.x) || m > kRows || k > kSlab) {
          wait_for_previous_grid();
          __syncthreads();  // whoever still reads what was there
          const int r = kRows == 1 ? 0 : warp;
          if (r < n_rows)
            source(row + r, Range{slab, slab + width}, kRows == 1 ? int(threadIdx.x) : lane,
                   kRows == 1 ? int(kThreads) : 32,
                   [&](int i, T x) { numbers[r * spread.size() + spread.at(i - slab)] = x; });
          __syncthreads();
        }
        if (mine && p.scale) scale = p.scale[j];
        if (mine && p.residual) before = p.residual[at];
        w.multiply(numbers, spread, n_rows, sums);
      }
      T sum = 0;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= n_rows) break;
        const T whole = warp_reduce(sums[r], Sum{});
        if (lane == r) sum = whole;
      }
      if (mine) p.y[at] = std::fma(sum, scale, before);
    }
  }
}

// All of `products`, of x [m, k], which the source makes. `early`: begins with the weights while the kernel before
// still runs, which must not be one that writes them.
template <class T, class Source>
void gemv(int64_t m, int64_t k, const Source& source, std::span<const Product> products, bool early = true) {
  const auto of = [&]<class W>() {
    check(products.size() <= 3, "gemv: there are ", products.size(), " products of one x, but no more than 3 can be");
    Products<T, W> all{};
    int64_t n = 0;
    for (size_t i = 0; i < products.size(); ++i) {
      const Product& p = products[i];
      all.of[i] = {data<W>(p.weight), data_or_null<T>(p.scale), data_or_null<T>(p.residual), data<T>(p.y),
                   int(p.weight.dim(0))};
      n += p.weight.dim(0);
    }
    if (m == 0 || n == 0) return;
    const size_t numbers = size_t(Spread<kPerLoad<W>>(k).size()) * (m == 1 ? 1 : 8);
    launch({blocks_for(n, kThreads / 32), kThreads, numbers * sizeof(T), stream(), early},
           m == 1 ? gemv_kernel<1, T, W, Source> : gemv_kernel<8, T, W, Source>, m, n, k, source, all);
  };
  const DType kept = products[0].weight.dtype();
  if constexpr (std::is_same_v<T, float>) {
    if (kept == DType::bf16) return of.template operator()<bf16>();
    if (kept == DType::i8) return of.template operator()<int8_t>();
  }
  of.template operator()<T>();
}

}  // namespace rondo::cuda
