// Attention for decoding: a few queries, each over what is kept of its sequence. What a query sees is cut into chunks,
// a block a chunk, so that one query of a few heads keeps many processors busy; then its chunks are put together.
#include <cmath>

#include "cuda/head.cuh"

namespace rondo {
namespace {

using namespace cuda;

constexpr int kChunk = 64;                  // keys
constexpr int kShares = kThreads / kChunk;  // of a column: a thread each

template <class T>
struct Shared {
  T weights[kChunk], sums[kShares][kChunk];
  // Behind it: the query's d numbers, and zeros up to whole chunks.
};

// A thread's share of a column of a matrix, up to kChunk rows of which kChunk columns are dealt with at once: all of it
// is on its way from memory before any of it is used.
template <class T>
struct Share {
  T numbers[kChunk / kShares];
  __device__ static int column() { return int(threadIdx.x) % kChunk; }
  __device__ static int index() { return int(threadIdx.x) / kChunk; }

  __device__ Share(const T* from, int64_t ld, int64_t rows, int64_t columns) {
    from += index() * ld + column();
    const int n = column() < columns ? int(min(rows, int64_t(kChunk))) - index() : 0;
#pragma unroll
    for (int e = 0; e < kChunk / kShares; ++e, from += kShares * ld) numbers[e] = e * kShares < n ? *from : T(0);
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

// Keys [batch, D, rows]: threads side by side read keys side by side; values [batch, rows, D].
template <class T>
struct CacheKeys {
  const CachePlace* places;
  int64_t d, rows;
  const T *kv, *scale, *angles;
  T *keys, *values;
  template <class L>
  __device__ void operator()(L, int64_t i, bool there) const {
    const CachePlace& p = places[i];
    const int64_t row = p.last - 1;
    const T* pair = kv + i * 2 * d;
    const Head<T, L> key(pair, scale, angles ? angles + row * d : nullptr, d);
    if (!there) return;
    T* const column = keys + p.sequence * d * rows + row;
    L::over(key.half(), [&](int at) {
      const auto k = key.at(at);
#pragma unroll
      for (int e = 0; e < L::kN; ++e) {
        column[(at + e) * rows] = k.low[e];
        if (key.half() + at + e < d) column[(key.half() + at + e) * rows] = k.high[e];
      }
      store_pairs<L>(load_pairs<L>(pair + d, key.d, at), key.d, at, values + (p.sequence * rows + row) * d);
    });
  }
};

// Block (place, head, chunk) -> the chunk's part: d sums of values, weighted by exp(score - top), then top, then the
// sum of the weights.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    attend_kernel(Seen seen, int64_t d, T factor, const T* q, const T* scale, const T* angles, const T* keys,
                  const T* values, T* parts) {
  const CachePlace p = seen.from(blockIdx.x);
  const int64_t first = p.first + int64_t(blockIdx.z) * kChunk, n = min(p.last - first, int64_t(kChunk));
  if (n <= 0) return;  // a query with fewer chunks than another
  Shared<T>& s = shared<Shared<T>>();
  T* const query = reinterpret_cast<T*>(&s + 1);
  const int64_t at = int64_t(blockIdx.x) * gridDim.y + blockIdx.y;
  T* const part = parts + (at * gridDim.z + blockIdx.z) * (d + 2);
  const T* const key = keys + p.sequence * d * seen.rows + first;
  const T* const value = values + (p.sequence * seen.rows + first) * d;
  const Share<T> first_keys(key, seen.rows, d, n), first_values(value, d, n, d);  // read while the query is made

  if (threadIdx.x < 32) {
    const Head<T, WarpLanes> head(q + at * d, scale, angles ? angles + (p.last - 1) * d : nullptr, d);
    WarpLanes::over(head.half(), [&](int i) {
      auto r = head.at(i);
      r.low[0] *= factor, r.high[0] *= factor;
      store_pairs<WarpLanes>(r, head.d, i, query);
    });
    for (int64_t i = d + threadIdx.x; i < padded(d); i += 32) query[i] = 0;
  }
  __syncthreads();
  const int column = Share<T>::column(), index = Share<T>::index();
  T score = first_keys.times(query);
  for (int64_t i = kChunk; i < d; i += kChunk)
    score += Share<T>(key + i * seen.rows, seen.rows, d - i, n).times(query + i);
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
  for (int64_t i = 0; i < d; i += kChunk) {
    s.sums[index][column] = (i == 0 ? first_values : Share<T>(value + i, d, n, d - i)).times(s.weights);
    __syncthreads();
    if (index == 0 && i + column < d) part[i + column] = whole(s.sums, column);
    __syncthreads();
  }
}

// Puts the chunks of a query's head together, an element by itself.
template <class T>
struct Combine {
  Seen seen;
  int64_t d, heads, most_chunks;
  const T* parts;
  T* y;
  int64_t width;  // of y's rows
  __device__ void operator()(int64_t i) const {
    const int64_t column = i % d, at = i / d, place = at / heads;
    const CachePlace p = seen.from(place);
    const T* part = parts + at * most_chunks * (d + 2);
    const int64_t length = (p.last - p.first + kChunk - 1) / kChunk * (d + 2);
    T top = Max::start<T>(), sum = 0, weighted = 0;
#pragma unroll 8
    for (int64_t c = 0; c < length; c += d + 2) top = Max{}(top, part[c + d]);
#pragma unroll 8
    for (int64_t c = 0; c < length; c += d + 2) {
      const T factor = std::exp(part[c + d] - top);
      sum += factor * part[c + d + 1];
      weighted += factor * part[c + column];
    }
    y[place * width + at % heads * d + column] = weighted / sum;
  }
};

template <class T>
struct StoreRows {
  const CachePlace* places;
  int64_t rows, width;
  const T* x;
  T* y;
  __device__ void operator()(int64_t i) const {
    const CachePlace& p = places[i / width];
    y[(p.sequence * rows + (p.last - 1) % rows) * width + i % width] = x[i];
  }
};

const CachePlace* places_of(const Tensor& t) { return reinterpret_cast<const CachePlace*>(data<int64_t>(t)); }

}  // namespace

KeyValueCache key_value_cache(Cuda, int64_t batch, int64_t rows, int64_t head_width, DType dtype) {
  return {Tensor({batch, head_width, rows}, dtype, Device::cuda),
          Tensor({batch, rows, head_width}, dtype, Device::cuda), rows};
}

void cache_keys(Cuda, const Tensor& places, const Tensor& kv, const Tensor& k_scale, const Tensor& table,
                const KeyValueCache& cache) {
  const int64_t d = cache.keys.dim(1), rows = cache.keys.dim(2);
  dispatch_float(kv.dtype(), [&]<class T>() {
    const T* angles = table ? data<T>(table) + table.dim(1) * d : nullptr;
    for_each_head<T>(places.dim(0), d,
                     CacheKeys<T>{places_of(places), d, rows, data<T>(kv), data_or_null<T>(k_scale), angles,
                                  data<T>(cache.keys), data<T>(cache.values)});
  });
}

void store_rows(Cuda, const Tensor& places, const Tensor& x, const Tensor& y) {
  dispatch_float(x.dtype(), [&]<class T>() {
    for_each(x.numel(), StoreRows<T>{places_of(places), y.dim(1), y.dim(2), data<T>(x), data<T>(y)});
  });
}

void attention_decode(Cuda, const Tensor& places, int64_t heads, double factor, const Tensor& q, const Tensor& q_scale,
                      const Tensor& table, const KeyValueCache& cache, const Tensor& y, int64_t column) {
  const int64_t n = places.dim(0), d = cache.keys.dim(1);
  if (n == 0) return;
  // As many as all rows are: only the device knows what a query sees.
  const int64_t chunks = (cache.rows + kChunk - 1) / kChunk;
  const Seen seen{places_of(places), cache.rows, cache.all};
  dispatch_float(q.dtype(), [&]<class T>() {
    const Tensor parts({n, heads, chunks, d + 2}, q.dtype(), Device::cuda);
    launch({dim3(unsigned(n), unsigned(heads), unsigned(chunks)), kThreads, sizeof(Shared<T>) + padded(d) * sizeof(T),
            stream()},
           attend_kernel<T>, seen, d, T(factor), data<T>(q), data_or_null<T>(q_scale), data_or_null<T>(table),
           data<T>(cache.keys), data<T>(cache.values), data<T>(parts));
    for_each(n * heads * d, Combine<T>{seen, d, heads, chunks, data<T>(parts), data<T>(y) + column, y.dim(-1)});
  });
}

}  // namespace rondo
