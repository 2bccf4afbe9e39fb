// What decoding keeps of a sequence, on CUDA: its keys, ready to be multiplied, and its values.
#include "cuda/head.cuh"
#include "cuda/places.cuh"

namespace rondo {
namespace {

using namespace cuda;

// Keys [batch, D, rows]: threads side by side read keys side by side; values [batch, rows, D]; pairs as they came
// [batch, raw_rows, 2D], or null. Keys are made by whole warps, as attention makes those that tokens bring (decode.cu):
// their bits are the same.
template <class T>
struct CacheKeys {
  const CachePlace* places;
  int64_t d, rows;
  const T *kv, *scale, *angles;
  T *keys, *values, *raw;
  int64_t raw_rows;
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
      const auto value = load_pairs<L>(pair + d, key.d, at);
      store_pairs<L>(value, key.d, at, values + (p.sequence * rows + row) * d);
      if (!raw) return;
      T* const kept = raw + (p.sequence * raw_rows + row % raw_rows) * 2 * d;
      store_pairs<L>(load_pairs<L>(pair, key.d, at), key.d, at, kept);
      store_pairs<L>(value, key.d, at, kept + d);
    });
  }
};

}  // namespace

KeyValueCache key_value_cache(Cuda, int64_t batch, int64_t rows, int64_t head_width, DType dtype) {
  return {Tensor({batch, head_width, rows}, dtype, Device::cuda),
          Tensor({batch, rows, head_width}, dtype, Device::cuda), rows};
}

void cache_keys(Cuda, const Tensor& places, const Tensor& kv, const Tensor& k_scale, const Tensor& table,
                const KeyValueCache& cache, const Tensor& raw) {
  const int64_t d = cache.keys.dim(1), rows = cache.keys.dim(2);
  dispatch_float(kv.dtype(), [&]<class T>() {
    const T* angles = table ? data<T>(table) + table.dim(1) * d : nullptr;
    const CacheKeys<T> f = {places_of(places),
                            d,
                            rows,
                            data<T>(kv),
                            data_or_null<T>(k_scale),
                            angles,
                            data<T>(cache.keys),
                            data<T>(cache.values),
                            data_or_null<T>(raw),
                            raw ? raw.dim(1) : 1};
    const int64_t n = places.dim(0);
    if (n > 0)
      launch({blocks_for(n, kThreads / WarpLanes::kCount), kThreads, 0, stream(), true},
             for_each_head_kernel<WarpLanes, CacheKeys<T>>, n, f);
  });
}

}  // namespace rondo
