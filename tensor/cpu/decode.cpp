// Attention for decoding: a few queries, each over what is kept of its sequence. A key is prepared once, when it comes
// in, and lies where both products read it as it lies: no token copies the window.
#include <algorithm>

#include "tensor/cpu/heads.h"
#include "tensor/cpu/rows.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/vector.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using cpu::Register;

// Keys lie in chunks [D, kChunk], a column a key; values in rows, padded to whole chunks. Then both products are of the
// one form below.
constexpr int kAcross = 4;  // registers of a chunk
template <class T>
constexpr int64_t kChunk = kAcross* Register<T>::length;
template <class T>
int64_t padded(int64_t n) {
  return (n + kChunk<T> - 1) / kChunk<T> * kChunk<T>;
}

// C [M, kChunk] = A [M, k] B [k, kChunk]; rows of B and C are aligned.
template <class T, int M>
void chunk_product(int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc) {
  using V = typename Register<T>::type;
  V sum[M][kAcross] = {};
  for (int64_t p = 0; p < k; ++p) {
    const V* row = reinterpret_cast<const V*>(b + p * ldb);
#pragma GCC unroll 2
    for (int m = 0; m < M; ++m) {
      V x;
      for (int64_t v = 0; v < Register<T>::length; ++v) x[v] = a[m * lda + p];
#pragma GCC unroll 4
      for (int v = 0; v < kAcross; ++v) sum[m][v] = cpu::multiply_add(x, row[v], sum[m][v]);
    }
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < kAcross; ++v) reinterpret_cast<V*>(c + m * ldc)[v] = sum[m][v];
}

// The same for any number of rows. An element is one sum in the order of k, whatever m is.
template <class T>
void chunk_products(int64_t m, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc) {
  int64_t i = 0;
  for (; i + 2 <= m; i += 2) chunk_product<T, 2>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc);
  if (i < m) chunk_product<T, 1>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc);
}

// `heads` heads of one query, raw, over the rows first..last-1 of a sequence's cache.
template <class T>
void attend(int64_t heads, int64_t d, double factor, int64_t first, int64_t last, const T* q, const T* q_scale,
            const T* angles, const T* keys, const T* values, T* y) {
  const int64_t base = first / kChunk<T> * kChunk<T>, ld = padded<T>(last) - base, wide = padded<T>(d);
  cpu::Scratch scratch;
  T *queries = scratch.get<T>(heads * d), *scores = scratch.get<T>(heads * ld), *out = scratch.get<T>(heads * wide);
  for (int64_t h = 0; h < heads; ++h) {
    cpu::prepare_head(q + h * d, q_scale, angles, d, queries + h * d);
    cpu::lane_map(
        d, queries + h * d, [&](const auto& x) { return x * T(factor); }, queries + h * d);
  }
  for (int64_t j = base; j < last; j += kChunk<T>)
    chunk_products(heads, d, queries, d, keys + j * d, kChunk<T>, scores + j - base, ld);
  for (int64_t h = 0; h < heads; ++h) {
    T* row = scores + h * ld + first - base;
    const T highest = cpu::flat(row, last - first).maxCoeff();
    cpu::lane_map(
        last - first, row, [&](const auto& x) { return cpu::exp_lanes(x - highest); }, row);
  }
  for (int64_t i = 0; i < wide; i += kChunk<T>)
    chunk_products(heads, last - first, scores + first - base, ld, values + first * wide + i, wide, out + i, wide);
  for (int64_t h = 0; h < heads; ++h) {
    const T sum = cpu::lane_sum<T>(last - first, cpu::kSelf, scores + h * ld + first - base);
    cpu::lane_map(
        d, y + h * d, [&](const auto& x) { return x * (T(1) / sum); }, out + h * wide);
  }
}

template <class T>
const T* data_or_null(const Tensor& t) {
  return t ? t.data<T>() : nullptr;
}

}  // namespace

KeyValueCache key_value_cache(Cpu, int64_t batch, int64_t rows, int64_t head_width, DType dtype) {
  return dispatch_float(dtype, [&]<class T>() {
    return KeyValueCache{zeros({batch, padded<T>(rows) * head_width}, dtype),
                         zeros({batch, rows * padded<T>(head_width)}, dtype)};
  });
}

void cache_keys(Cpu, std::span<const CachePlace> places, const Tensor& kv, const Tensor& k_scale, const Tensor& table,
                const KeyValueCache& cache) {
  const int64_t d = kv.dim(-1) / 2;
  dispatch_float(kv.dtype(), [&]<class T>() {
    cpu::Scratch scratch;
    T* key = scratch.get<T>(d);
    for (size_t i = 0; i < places.size(); ++i) {
      const int64_t sequence = places[i].sequence, row = places[i].last - 1, column = row % kChunk<T>;
      const T *pair = kv.data<T>() + int64_t(i) * 2 * d, *angles = data_or_null<T>(table);
      if (angles) angles += (table.dim(1) + row) * d;
      cpu::prepare_head(pair, data_or_null<T>(k_scale), angles, d, key);
      T* to = cache.keys.data<T>() + sequence * cache.keys.dim(1) + (row - column) * d + column;
      for (int64_t e = 0; e < d; ++e) to[e * kChunk<T>] = key[e];
      std::copy(pair + d, pair + 2 * d, cache.values.data<T>() + sequence * cache.values.dim(1) + row * padded<T>(d));
    }
  });
}

void attention_decode(Cpu, std::span<const CachePlace> places, int64_t heads, double factor, const Tensor& q,
                      const Tensor& q_scale, const Tensor& table, const KeyValueCache& cache, const Tensor& y,
                      int64_t column) {
  const int64_t d = q.dim(-1) / heads;
  int64_t most = 1;
  for (const CachePlace& p : places) most = std::max(most, p.last - p.first);
  // About a hundred thousand multiplications are worth a tile.
  const int64_t step = std::clamp<int64_t>(65536 / (most * d) / 2 * 2, 2, heads + 1);
  const int64_t tiles = (heads + step - 1) / step;
  dispatch_float(q.dtype(), [&]<class T>() {
    parallel_for(int64_t(places.size()) * tiles, [&](int64_t i) {
      const int64_t query = i / tiles, head = i % tiles * step;
      const CachePlace& p = places[size_t(query)];
      const T* angles = data_or_null<T>(table);
      attend(std::min(step, heads - head), d, factor, p.first, p.last, q.data<T>() + (query * heads + head) * d,
             data_or_null<T>(q_scale), angles ? angles + (p.last - 1) * d : nullptr,
             cache.keys.data<T>() + p.sequence * cache.keys.dim(1),
             cache.values.data<T>() + p.sequence * cache.values.dim(1),
             y.data<T>() + query * y.dim(-1) + column + head * d);
    });
  });
}

}  // namespace rondo
