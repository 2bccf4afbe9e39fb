// Attention for decoding: a few queries, each over what is kept of its sequence. What a query sees is cut into chunks,
// a block a chunk, so that one query of a few heads keeps many processors busy; then its chunks are put together.
#include <cmath>

#include "cuda/head.cuh"
#include "cuda/list.cuh"

namespace rondo {
namespace {

using namespace cuda;

constexpr int64_t kChunk = kThreads;  // keys of a chunk: a thread each
constexpr int kWarps = kThreads / 32;

template <class T>
struct Shared {
  T scratch[32], weights[kChunk], sums[kWarps][32];
  // Behind it: the query's d numbers.
};

// Keys [batch, D, rows]: threads side by side read keys side by side; values [batch, rows, D].
template <class T>
struct CacheKeys {
  List<CachePlace> places;
  int64_t d, rows;
  const T *kv, *scale, *angles;
  T *keys, *values;
  template <class L>
  __device__ void operator()(L, int64_t i, bool there) const {
    const CachePlace& p = places.items[i];
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
__global__ void attend_kernel(List<CachePlace> places, int64_t d, int64_t rows, T factor, const T* q, const T* scale,
                              const T* angles, const T* keys, const T* values, T* parts) {
  const CachePlace p = places.items[blockIdx.x];
  const int64_t first = p.first + blockIdx.z * kChunk, n = min(p.last - first, kChunk);
  if (n <= 0) return;  // a query with fewer chunks than another
  Shared<T>& s = shared<Shared<T>>();
  T* const query = reinterpret_cast<T*>(&s + 1);
  const int64_t at = int64_t(blockIdx.x) * gridDim.y + blockIdx.y;
  T* const part = parts + (at * gridDim.z + blockIdx.z) * (d + 2);

  if (threadIdx.x < 32) {
    const Head<T, WarpLanes> head(q + at * d, scale, angles ? angles + (p.last - 1) * d : nullptr, d);
    WarpLanes::over(head.half(), [&](int i) {
      auto r = head.at(i);
      r.low[0] *= factor, r.high[0] *= factor;
      store_pairs<WarpLanes>(r, head.d, i, query);
    });
  }
  __syncthreads();
  const int64_t j = threadIdx.x;
  T score = Max::start<T>();
  if (j < n) {
    const T* key = keys + p.sequence * d * rows + first + j;
    score = 0;
#pragma unroll 8
    for (int64_t i = 0; i < d; ++i) score += query[i] * key[i * rows];
  }
  const T top = block_reduce(score, s.scratch, Max{});
  const T weight = j < n ? std::exp(score - top) : T(0), sum = block_reduce(weight, s.scratch, Sum{});
  s.weights[j] = weight;
  if (j == 0) part[d] = top, part[d + 1] = sum;
  __syncthreads();

  // 32 columns of the values at a time, a warp every kWarps-th row.
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 32);
  const T* value = values + (p.sequence * rows + first) * d;
  for (int64_t column = lane; column - lane < d; column += 32) {
    T y = 0;
    if (column < d)
      for (int64_t i = warp; i < n; i += kWarps) y += s.weights[i] * value[i * d + column];
    s.sums[warp][lane] = y;
    __syncthreads();
    if (warp == 0 && column < d) {
      for (int w = 1; w < kWarps; ++w) y += s.sums[w][lane];
      part[column] = y;
    }
    __syncthreads();
  }
}

// Puts the chunks of a query's head together, an element by itself.
template <class T>
struct Combine {
  List<CachePlace> places;
  int64_t d, heads, most_chunks;
  const T* parts;
  T* y;
  int64_t width;  // of y's rows
  __device__ void operator()(int64_t i) const {
    const int64_t column = i % d, at = i / d, place = at / heads;
    const CachePlace& p = places.items[place];
    const T* part = parts + at * most_chunks * (d + 2);
    const int64_t length = (p.last - p.first + kChunk - 1) / kChunk * (d + 2);
    T top = Max::start<T>(), sum = 0, weighted = 0;
    for (int64_t c = 0; c < length; c += d + 2) top = Max{}(top, part[c + d]);
    for (int64_t c = 0; c < length; c += d + 2) {
      const T factor = std::exp(part[c + d] - top);
      sum += factor * part[c + d + 1];
      weighted += factor * part[c + column];
    }
    y[place * width + at % heads * d + column] = weighted / sum;
  }
};

// Calls run(list, number of the first place in it), as many places at a time as a list takes.
template <class Run>
void in_lists(std::span<const CachePlace> places, Run&& run) {
  for (size_t i = 0; i < places.size();) {
    const int64_t first = int64_t(i);
    List<CachePlace> list;
    while (i < places.size() && !list.full()) list.add(places[i++]);
    run(list, first);
  }
}

}  // namespace

KeyValueCache key_value_cache(Cuda, int64_t batch, int64_t rows, int64_t head_width, DType dtype) {
  return {Tensor({batch, head_width, rows}, dtype, Device::cuda),
          Tensor({batch, rows, head_width}, dtype, Device::cuda)};
}

void cache_keys(Cuda, std::span<const CachePlace> places, const Tensor& kv, const Tensor& k_scale, const Tensor& table,
                const KeyValueCache& cache) {
  const int64_t d = cache.keys.dim(1), rows = cache.keys.dim(2);
  dispatch_float(kv.dtype(), [&]<class T>() {
    const T* angles = table ? data<T>(table) + table.dim(1) * d : nullptr;
    in_lists(places, [&](const List<CachePlace>& list, int64_t first) {
      for_each_head<T>(list.n, d,
                       CacheKeys<T>{list, d, rows, data<T>(kv) + first * 2 * d, data_or_null<T>(k_scale), angles,
                                    data<T>(cache.keys), data<T>(cache.values)});
    });
  });
}

void attention_decode(Cuda, std::span<const CachePlace> places, int64_t heads, double factor, const Tensor& q,
                      const Tensor& q_scale, const Tensor& table, const KeyValueCache& cache, const Tensor& y,
                      int64_t column) {
  const int64_t d = cache.keys.dim(1), rows = cache.keys.dim(2);
  dispatch_float(q.dtype(), [&]<class T>() {
    in_lists(places, [&](const List<CachePlace>& list, int64_t first) {
      int64_t most = 1;
      for (int i = 0; i < list.n; ++i) most = std::max(most, list.items[i].last - list.items[i].first);
      const int64_t chunks = (most + kChunk - 1) / kChunk;
      const Tensor parts({list.n, heads, chunks, d + 2}, q.dtype(), Device::cuda);
      launch({dim3(unsigned(list.n), unsigned(heads), unsigned(chunks)), kThreads, sizeof(Shared<T>) + d * sizeof(T),
              stream()},
             attend_kernel<T>, list, d, rows, T(factor), static_cast<const T*>(data<T>(q) + first * heads * d),
             data_or_null<T>(q_scale), data_or_null<T>(table), data<T>(cache.keys), data<T>(cache.values),
             data<T>(parts));
      for_each(list.n * heads * d,
               Combine<T>{list, d, heads, chunks, data<T>(parts), data<T>(y) + first * y.dim(-1) + column, y.dim(-1)});
    });
  });
}

}  // namespace rondo
