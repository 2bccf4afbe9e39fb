// Attention for decoding: a few queries, each over what is kept of its sequence, and what tokens bring to it. What a
// query sees is cut into chunks, a block a chunk, so that one query of a few heads keeps many processors busy; whoever
// reads the result puts its chunks together.
#include <cmath>

#include "cuda/gemv.cuh"
#include "cuda/head.cuh"
#include "cuda/places.cuh"

namespace rondo {
namespace {

using namespace cuda;

constexpr int kChunk = 64;                  // keys
constexpr int kShares = kThreads / kChunk;  // of a column: a thread each

template <class T>
struct Shared {
  T weights[kChunk], sums[kShares][kChunk];
  int bringer[kChunk];  // the token that brings a key with this launch, or -1
  // Behind it: the query's d numbers, and zeros up to whole chunks; then the keys that tokens bring.
};

// A thread's share of a column of a matrix, up to kChunk rows of which kChunk columns are dealt with at once: all of it
// is on its way from memory before any of it is used.
template <class T>
struct Share {
  T numbers[kChunk / kShares];
  __device__ static int column() { return int(threadIdx.x) % kChunk; }
  __device__ static int index() { return int(threadIdx.x) / kChunk; }

  // number(row) of the thread's rows of its column.
  template <class F>
  __device__ explicit Share(const F& number) {
#pragma unroll
    for (int e = 0; e < kChunk / kShares; ++e) numbers[e] = number(e * kShares + index());
  }
  // Instead of a column of memory one of `rows` numbers side by side.
  __device__ void take(const T* from, int64_t rows) {
#pragma unroll
    for (int e = 0; e < kChunk / kShares; ++e)
      if (const int r = e * kShares + index(); r < rows) numbers[e] = from[r];
  }
  __device__ T times(const T* weights) const {
    T sum = 0;
#pragma unroll
    for (int e = 0; e < kChunk / kShares; ++e) sum += weights[e * kShares + index()] * numbers[e];
    return sum;
  }
};
// In whole chunks.
__device__ __host__ int64_t padded(int64_t n) { return (n + kChunk - 1) / kChunk * kChunk; }
// The sum of the shares of a column.
template <class T>
__device__ T whole(const T (&sums)[kShares][kChunk], int column) {
  static_assert(kShares == 4);
  return (sums[0][column] + sums[1][column]) + (sums[2][column] + sums[3][column]);
}

// What queries see.
struct Seen {
  const CachePlace* places;
  int64_t rows;
  bool all;
  __device__ CachePlace from(int64_t query) const {
    const CachePlace& p = places[query];
    return all ? CachePlace{p.sequence, 0, rows} : p;
  }
};

// One or two attentions of as many heads each: those of the second are counted behind those of the first.
template <class T>
struct Attentions {
  struct One {
    Seen seen;
    T factor;
    const T *q, *scale, *angles;
    T *keys, *values;
  } of[2];
  int heads, d, chunks;  // chunks: that there is room for
  // What the tokens bring to the first one's cache. kv is null where they bring nothing, raw where that is not kept.
  const T *kv, *k_scale, *key_angles;
  T* raw;
  int64_t raw_rows;

  // The part of chunk 0 of a head of a place, of all `n_heads`: d sums of values, weighted by exp(score - top), then
  // top, then the sum of the weights. The next chunk's is behind it.
  __device__ int64_t part(int64_t place, int n_heads, int head) const {
    return (place * n_heads + head) * chunks * (d + 2);
  }
};

// bringer[c] = the token of this launch that brings the key at row first + c of a query's sequence, or -1, for c < n.
// What it brings is not read from the cache, where another block may be storing it. By all threads, with barriers.
template <class T>
__device__ void find_bringers(const Attentions<T>& all, const CachePlace& query, int64_t first, int64_t n,
                              int (&bringer)[kChunk]) {
  if (threadIdx.x < kChunk) bringer[threadIdx.x] = -1;
  __syncthreads();
  for (int j = int(threadIdx.x); j < int(gridDim.x); j += kThreads) {
    const CachePlace& p = all.of[0].seen.places[j];
    const int64_t c = p.last - 1 - first;
    if (p.sequence == query.sequence && uint64_t(c) < uint64_t(n)) bringer[c] = j;  // not before the chunk, nor behind
  }
  __syncthreads();
}

// The keys of those tokens, a warp a key: token j's d numbers, at keys + j d. Each block makes those that it needs,
// since no block waits for another.
template <class T>
__device__ void make_brought_keys(const Attentions<T>& all, int64_t first, int64_t n, const int (&bringer)[kChunk],
                                  T* keys) {
  for (int c = int(threadIdx.x) / 32; c < n; c += int(kThreads) / 32) {
    const int j = bringer[c];
    if (j < 0) continue;
    const Head<T, WarpLanes> key(all.kv + j * 2 * all.d, all.k_scale,
                                 all.key_angles ? all.key_angles + (first + c) * all.d : nullptr, all.d);
    WarpLanes::over(key.half(), [&](int i) { store_pairs<WarpLanes>(key.at(i), key.d, i, keys + j * all.d); });
  }
}

// Token j's key, made, and its value to where it stands; and both as they came.
template <class T>
__device__ void keep(const Attentions<T>& all, const CachePlace& p, int j, const T* key) {
  const int64_t d = all.d, rows = all.of[0].seen.rows, row = p.last - 1;
  const T* const pair = all.kv + j * 2 * d;
  for (int64_t i = threadIdx.x; i < d; i += kThreads) {
    all.of[0].keys[(p.sequence * d + i) * rows + row] = key[i];
    all.of[0].values[(p.sequence * rows + row) * d + i] = pair[d + i];
  }
  if (!all.raw) return;
  T* const kept = all.raw + (p.sequence * all.raw_rows + row % all.raw_rows) * 2 * d;
  for (int64_t i = threadIdx.x; i < 2 * d; i += kThreads) kept[i] = pair[i];
}

// Block (place, head, chunk) -> the chunk's part.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) attend_kernel(Attentions<T> all, T* parts) {
  wait_for_previous_grid();
  const int which = int(blockIdx.y) / all.heads, d = all.d;
  const auto& a = all.of[which];
  const CachePlace p = a.seen.from(blockIdx.x);
  const int64_t first = p.first + int64_t(blockIdx.z) * kChunk, n = min(p.last - first, int64_t(kChunk));
  if (n <= 0) return;  // a query with fewer chunks than another
  Shared<T>& s = shared<Shared<T>>();
  T* const query = reinterpret_cast<T*>(&s + 1);
  T* const part = parts + all.part(blockIdx.x, int(gridDim.y), int(blockIdx.y)) + blockIdx.z * (d + 2);
  const int64_t ld = a.seen.rows;
  const T* const key = a.keys + p.sequence * d * ld + first;
  const T* const value = a.values + (p.sequence * ld + first) * d;
  const bool brings = which == 0 && all.kv;
  if (brings) find_bringers(all, p, first, n, s.bringer);
  const int column = Share<T>::column(), index = Share<T>::index(), j = brings ? s.bringer[column] : -1;
  const auto keys_from = [&](int i) {  // of the numbers i.. of the column's key; of a brought one zeros
    return Share<T>([&](int r) { return r < d - i && column < n && j < 0 ? key[(i + r) * ld + column] : T(0); });
  };
  const auto values_from = [&](int i) {
    return Share<T>([&](int r) {
      if (r >= n || i + column >= d) return T(0);
      const int from = brings ? s.bringer[r] : -1;
      return from < 0 ? value[r * d + i + column] : all.kv[(2 * from + 1) * d + i + column];
    });
  };
  const Share<T> first_keys = keys_from(0), first_values = values_from(0);  // read while the query is made
  T* const brought = query + padded(d);
  if (brings) make_brought_keys(all, first, n, s.bringer, brought);
  if (threadIdx.x < 32) {
    const T* q = a.q + (int64_t(blockIdx.x) * all.heads + int(blockIdx.y) % all.heads) * d;
    const Head<T, WarpLanes> head(q, a.scale, a.angles ? a.angles + (p.last - 1) * d : nullptr, d);
    WarpLanes::over(head.half(), [&](int i) {
      auto r = head.at(i);
      r.low[0] *= a.factor, r.high[0] *= a.factor;
      store_pairs<WarpLanes>(r, head.d, i, query);
    });
    for (int i = d + int(threadIdx.x); i < padded(d); i += 32) query[i] = 0;
  }
  __syncthreads();
  const auto score_of = [&](Share<T> keys, int i) {
    if (j >= 0) keys.take(brought + j * d + i, d - i);
    return keys.times(query + i);
  };
  T score = score_of(first_keys, 0);
  for (int i = kChunk; i < d; i += kChunk) score += score_of(keys_from(i), i);
  if (brings && int(blockIdx.y) == 0 && p.last - 1 - first < n)
    keep(all, p, int(blockIdx.x), brought + int64_t(blockIdx.x) * d);
  s.sums[index][column] = score;
  __syncthreads();
  if (threadIdx.x < 32) {  // two keys a lane
    const int low = int(threadIdx.x), high = low + 32;
    const T a = low < n ? whole(s.sums, low) : Max::start<T>(), b = high < n ? whole(s.sums, high) : Max::start<T>();
    const T top = warp_reduce(Max{}(a, b), Max{}), x = std::exp(a - top), y = std::exp(b - top);
    const T sum = warp_reduce(x + y, Sum{});
    s.weights[low] = x, s.weights[high] = y;
    if (low == 0) part[d] = top, part[d + 1] = sum;
  }
  __syncthreads();
  for (int i = 0; i < d; i += kChunk) {
    s.sums[index][column] = (i == 0 ? first_values : values_from(i)).times(s.weights);
    __syncthreads();
    if (index == 0 && i + column < d) part[i + column] = whole(s.sums, column);
    __syncthreads();
  }
}

// The numbers of a place's attentions, its chunks put together.
template <class T>
struct Combined {
  Attentions<T> all;
  int n_heads;  // of all attentions
  const T* parts;
  static constexpr int kBlocks = 2, kAtOnce = 32 / int(sizeof(T));  // chunks
  __device__ T at(int64_t place, int i) const {
    const int d = all.d, head = i / d, column = i % d;
    const CachePlace p = all.of[head / all.heads].seen.from(place);
    const T* part = parts + all.part(place, n_heads, head);
    const int n = int(p.last - p.first + kChunk - 1) / kChunk;
    T top = Max::start<T>(), sum = 0, weighted = 0;
    for (int first = 0; first < n; first += kAtOnce, part += kAtOnce * (d + 2)) {
      T tops[kAtOnce], sums[kAtOnce], values[kAtOnce];
      const T before = top;
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
        const bool there = first + c < n;
        const T* from = part + c * (d + 2);
        tops[c] = there ? from[d] : Max::start<T>();
        sums[c] = there ? from[d + 1] : T(0);
        values[c] = there ? from[column] : T(0);
        top = Max{}(top, tops[c]);
      }
      const T shrink = std::exp(before - top);
      sum *= shrink, weighted *= shrink;
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
        const T factor = std::exp(tops[c] - top);
        sum += factor * sums[c];
        weighted += factor * values[c];
      }
    }
    return weighted / sum;
  }
  // As gemv's source.
  template <class F>
  __device__ void operator()(int row, Range r, int thread, int threads, const F& put) const {
    for (int i = r.first + thread; i < r.end; i += threads) put(i, at(row, i));
  }
};
template <class T>
struct StoreCombined {
  Combined<T> x;
  T* y;
  int64_t width;  // of y's rows
  __device__ void operator()(int64_t i) const {
    const int n = x.n_heads * x.all.d;
    y[i / n * width + i % n] = x.at(i / n, int(i % n));
  }
};

// Of all keys that tokens bring.
int64_t numbers_of(const Brought& brought) { return brought.kv ? brought.kv.numel() / 2 : 0; }
constexpr int64_t kMostNumbers = 6000;  // of them, in shared memory

// Makes the parts of all chunks; `parts` is theirs.
template <class T>
Combined<T> attend(const Tensor& places, int64_t heads, std::span<const Attended> seen, const Brought& brought,
                   Tensor& parts) {
  const int64_t n = places.dim(0), d = seen[0].cache.keys.dim(1), n_heads = heads * int64_t(seen.size());
  check(seen.size() <= 2, "attention: ", seen.size(), " caches are read at once, but no more than 2 can be");
  Attentions<T> all{};
  int64_t rows = 0;  // only the device knows what a query sees: there is room for all of them
  for (size_t i = 0; i < seen.size(); ++i) {
    const KeyValueCache& c = seen[i].cache;
    all.of[i] = {
        {places_of(places), c.rows, c.all}, T(seen[i].factor), data<T>(seen[i].q), data_or_null<T>(seen[i].q_scale),
        data_or_null<T>(seen[i].table),     data<T>(c.keys),   data<T>(c.values)};
    rows = std::max(rows, c.rows);
  }
  const int64_t chunks = (rows + kChunk - 1) / kChunk;
  all.heads = int(heads), all.d = int(d), all.chunks = int(chunks);
  if (brought.kv) {
    const Tensor& table = seen[0].table;
    all.kv = data<T>(brought.kv), all.k_scale = data_or_null<T>(brought.k_scale);
    all.key_angles = table ? data<T>(table) + table.dim(1) * d : nullptr;
    all.raw = data_or_null<T>(brought.raw), all.raw_rows = brought.raw ? brought.raw.dim(1) : 1;
  }
  parts = Tensor({n, n_heads, chunks, d + 2}, dtype_of<T>, Device::cuda);
  if (n > 0)
    launch({dim3(unsigned(n), unsigned(n_heads), unsigned(chunks)), kThreads,
            sizeof(Shared<T>) + (padded(d) + numbers_of(brought)) * sizeof(T), stream(), true},
           attend_kernel<T>, all, data<T>(parts));
  return {all, int(n_heads), data<T>(parts)};
}

}  // namespace

void attention_decode(Cuda, const Tensor& places, int64_t heads, const Attended& seen, const Tensor& y,
                      int64_t column) {
  dispatch_float(y.dtype(), [&]<class T>() {
    Tensor parts;
    const Combined<T> x = attend<T>(places, heads, {&seen, 1}, {}, parts);
    for_each(places.dim(0) * heads * x.all.d, StoreCombined<T>{x, data<T>(y) + column, y.dim(-1)});
  });
}

void attention_gemv(Cuda, const Tensor& places, int64_t heads, std::span<const Attended> seen, const Brought& brought,
                    const Product& product) {
  if (numbers_of(brought) > kMostNumbers) {
    cache_keys(Cuda{}, places, brought.kv, brought.k_scale, seen[0].table, seen[0].cache, brought.raw);
    return attention_gemv(Cuda{}, places, heads, seen, {}, product);
  }
  dispatch_float(product.y.dtype(), [&]<class T>() {
    Tensor parts;
    const Combined<T> x = attend<T>(places, heads, seen, brought, parts);
    gemv<T>(places.dim(0), product.weight.dim(1), x, {&product, 1});
  });
}

}  // namespace rondo
