// Attention for decoding: a few queries, each over what is kept of its sequence. A key is prepared once, when it comes
// in, and lies where both products read it as it lies: no token copies the window.
#include <algorithm>
#include <cstring>

#include "tensor/cpu/heads.h"
#include "tensor/cpu/rows.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/vector.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using cpu::Register;

// Keys lie in chunks [D, kChunk], a column a key; values in rows, padded to whole registers. Then both products are of
// the one form below.
constexpr int kAcross = 4;  // registers of a chunk
template <class T>
constexpr int64_t kChunk = kAcross* Register<T>::length;
int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// C [M, A registers] = A [M, k] B [k, A registers]; rows of B and C are aligned. An element is one sum in the order of
// k.
template <class T, int M, int A>
void register_product(int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc) {
  using V = typename Register<T>::type;
  V sum[M][A] = {};
  for (int64_t p = 0; p < k; ++p) {
    const V* row = reinterpret_cast<const V*>(b + p * ldb);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
      const V x = a[m * lda + p] - V{};  // in all lanes
#pragma GCC unroll 4
      for (int v = 0; v < A; ++v) sum[m][v] = cpu::multiply_add(x, row[v], sum[m][v]);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < A; ++v) reinterpret_cast<V*>(c + m * ldc)[v] = sum[m][v];
}

// The same for any number of rows: as many at a time as there are registers for.
constexpr int kHeads = cpu::kRegisterBytes == 64 ? 4 : 2;
template <class T, int A>
void row_products(int64_t m, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc) {
  int64_t i = 0;
  for (; i + kHeads <= m; i += kHeads) register_product<T, kHeads, A>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc);
  for (; i < m; ++i) register_product<T, 1, A>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc);
}

// ... and any number of columns, n, in whole registers.
template <class T>
void products(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc) {
  constexpr int64_t length = Register<T>::length;
  int64_t j = 0;
  for (; j + kChunk<T> <= n; j += kChunk<T>) row_products<T, kAcross>(m, k, a, lda, b + j, ldb, c + j, ldc);
  if (j + 2 * length <= n) row_products<T, 2>(m, k, a, lda, b + j, ldb, c + j, ldc), j += 2 * length;
  if (j < n) row_products<T, 1>(m, k, a, lda, b + j, ldb, c + j, ldc);
}

// `heads` heads of one query, raw, over the rows first..last-1 of a sequence's cache.
template <class T>
void attend(int64_t heads, int64_t d, double factor, int64_t first, int64_t last, const T* q, const T* q_scale,
            const T* angles, const T* keys, const T* values, T* y) {
  const int64_t base = first / kChunk<T> * kChunk<T>, ld = padded(last, kChunk<T>) - base;
  const int64_t wide = padded(d, Register<T>::length);
  cpu::Scratch scratch;
  T *queries = scratch.get<T>(heads * d), *scores = scratch.get<T>(heads * ld), *out = scratch.get<T>(heads * wide);
  for (int64_t h = 0; h < heads; ++h) {
    cpu::prepare_head(q + h * d, q_scale, angles, d, queries + h * d);
    cpu::lane_map(
        d, queries + h * d, [&](const auto& x) { return x * T(factor); }, queries + h * d);
  }
  for (int64_t j = base; j < last; j += kChunk<T>)
    products(heads, kChunk<T>, d, queries, d, keys + j * d, kChunk<T>, scores + j - base, ld);
  for (int64_t h = 0; h < heads; ++h) {
    T* row = scores + h * ld + first - base;
    const T highest = cpu::flat(row, last - first).maxCoeff();
    cpu::lane_map(
        last - first, row, [&](const auto& x) { return cpu::exp_lanes(x - highest); }, row);
  }
  products(heads, wide, last - first, scores + first - base, ld, values + first * wide, wide, out, wide);
  for (int64_t h = 0; h < heads; ++h) {
    const T sum = cpu::lane_sum<T>(last - first, cpu::kSelf, scores + h * ld + first - base);
    cpu::lane_map(
        d, y + h * d, [&](const auto& x) { return x * (T(1) / sum); }, out + h * wide);
  }
}

std::span<const CachePlace> places_of(const Tensor& t) {
  return {reinterpret_cast<const CachePlace*>(t.data<int64_t>()), size_t(t.dim(0))};
}
template <class T>
const T* data_or_null(const Tensor& t) {
  return t ? t.data<T>() : nullptr;
}

}  // namespace

KeyValueCache key_value_cache(Cpu, int64_t batch, int64_t rows, int64_t head_width, DType dtype) {
  return dispatch_float(dtype, [&]<class T>() {
    return KeyValueCache{zeros({batch, padded(rows, kChunk<T>) * head_width}, dtype),
                         zeros({batch, rows * padded(head_width, Register<T>::length)}, dtype), rows};
  });
}

void cache_keys(Cpu, const Tensor& at, const Tensor& kv, const Tensor& k_scale, const Tensor& table,
                const KeyValueCache& cache) {
  const std::span<const CachePlace> places = places_of(at);
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
      std::copy(pair + d, pair + 2 * d,
                cache.values.data<T>() + sequence * cache.values.dim(1) + row * padded(d, Register<T>::length));
    }
  });
}

void store_rows(Cpu, const Tensor& at, const Tensor& x, const Tensor& y) {
  const std::span<const CachePlace> places = places_of(at);
  const int64_t rows = y.dim(1);
  const size_t bytes = size_t(y.dim(2)) * size_of(y.dtype());
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t row = places[i].sequence * rows + (places[i].last - 1) % rows;
    std::memcpy(static_cast<char*>(y.bytes()) + size_t(row) * bytes, static_cast<char*>(x.bytes()) + i * bytes, bytes);
  }
}

void attention_decode(Cpu, const Tensor& at, int64_t heads, double factor, const Tensor& q, const Tensor& q_scale,
                      const Tensor& table, const KeyValueCache& cache, const Tensor& y, int64_t column) {
  const std::span<const CachePlace> places = places_of(at);
  const int64_t d = q.dim(-1) / heads;
  const auto seen_from = [&](int64_t query) {
    const CachePlace& p = places[size_t(query)];
    return cache.all ? CachePlace{p.sequence, 0, cache.rows} : p;
  };
  int64_t most = 1;
  for (size_t i = 0; i < places.size(); ++i) most = std::max(most, seen_from(i).last - seen_from(i).first);
  // Some hundred thousand multiplications are worth a tile.
  const int64_t step = padded(std::clamp<int64_t>(131072 / (most * d), 1, heads), kHeads);
  const int64_t tiles = (heads + step - 1) / step;
  dispatch_float(q.dtype(), [&]<class T>() {
    parallel_for(int64_t(places.size()) * tiles, [&](int64_t i) {
      const int64_t query = i / tiles, head = i % tiles * step;
      const CachePlace p = seen_from(query);
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
