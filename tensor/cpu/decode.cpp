// Attention for decoding: a few queries, each over what is kept of its sequence. A key is prepared once, when it comes
// in, and lies where both products read it as it lies: no token copies the window.
#include <algorithm>
#include <type_traits>

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
constexpr int kAcross = 2;  // registers of a chunk
template <class T>
constexpr int64_t kChunk = kAcross* Register<T>::length;
int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// C [M, A registers] = A [M, k] B [k, A registers]; rows of B and C are aligned. An element is one sum in the order of
// k. `fetch` asks for whole rows of B early.
template <class T, int M, int A>
void register_product(bool fetch, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc) {
  using V = typename Register<T>::type;
  constexpr int64_t kLine = 64 / int64_t(sizeof(T)), kAhead = 32 * kLine;
  V sum[M][A] = {};
  for (int64_t p = 0; p < k; ++p) {
    const V* row = reinterpret_cast<const V*>(b + p * ldb);
    for (int64_t j = 0; fetch && j < ldb; j += kLine) __builtin_prefetch(b + p * ldb + j + kAhead);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const V x = a[m * lda + p] - V{};  // in all lanes
#pragma GCC unroll 8
      for (int v = 0; v < A; ++v) sum[m][v] = cpu::multiply_add(x, row[v], sum[m][v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < A; ++v) reinterpret_cast<V*>(c + m * ldc)[v] = sum[m][v];
}

// The same for n columns, in whole registers.
template <class T, int M>
void row_products(bool fetch, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
                  int64_t ldc) {
  int64_t j = 0;
  for (; j + kChunk<T> <= n; j += kChunk<T>)
    register_product<T, M, kAcross>(fetch && j == 0, k, a, lda, b + j, ldb, c + j, ldc);
  if (j < n) register_product<T, M, 1>(fetch && j == 0, k, a, lda, b + j, ldb, c + j, ldc);
}

// ... and any number of rows: as many at a time as there are registers for, so that B is read once.
template <class T>
void products(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb, T* c, int64_t ldc) {
  constexpr int kRows = cpu::kRegisterBytes == 64 ? 8 : 4;
  int64_t i = 0;
  const auto rows = [&]<int M>(std::integral_constant<int, M>) {
    for (; i + M <= m; i += M) row_products<T, M>(i == 0, n, k, a + i * lda, lda, b, ldb, c + i * ldc, ldc);
  };
  rows(std::integral_constant<int, kRows>());
  rows(std::integral_constant<int, kRows / 2>());
  rows(std::integral_constant<int, 1>());
}

// What the heads of a query make of a part of its keys: out [heads, padded(d)], their values added up under the weights
// exp(score - highest); for each head the highest score and the sum of the weights, those of the next head `apart`
// numbers further on.
template <class T>
struct Part {
  T *out, *highest, *sum;
  int64_t apart;
};

// The heads of one query, raw, over the rows first..last-1 of a sequence's cache.
template <class T>
void attend(int64_t heads, int64_t d, double factor, int64_t first, int64_t last, const T* q, const T* q_scale,
            const T* angles, const T* keys, const T* values, const Part<T>& part) {
  const int64_t base = first / kChunk<T> * kChunk<T>, ld = padded(last, kChunk<T>) - base;
  const int64_t wide = padded(d, Register<T>::length);
  cpu::Scratch scratch;
  T *queries = scratch.get<T>(heads * d), *scores = scratch.get<T>(heads * ld);
  for (int64_t h = 0; h < heads; ++h) {
    cpu::prepare_head(q + h * d, q_scale, angles, d, queries + h * d);
    cpu::lane_map(
        d, queries + h * d, [&](const auto& x) { return x * T(factor); }, queries + h * d);
  }
  for (int64_t j = base; j < last; j += kChunk<T>)
    products(heads, kChunk<T>, d, queries, d, keys + j * d, kChunk<T>, scores + j - base, ld);
  for (int64_t h = 0; h < heads; ++h) {
    T* row = scores + h * ld + first - base;
    const T highest = cpu::lane_max(last - first, row);
    cpu::lane_map(
        last - first, row, [&](const auto& x) { return cpu::exp_lanes(x - highest); }, row);
    part.highest[h * part.apart] = highest;
    part.sum[h * part.apart] = cpu::lane_sum<T>(last - first, cpu::kSelf, row);
  }
  products(heads, wide, last - first, scores + first - base, ld, values + first * wide, wide, part.out, wide);
}

// One head's parts made one, y [d]: each as if its highest score had been that of all (Dao et al. 2023,
// Flash-Decoding). The parts' `out` lie `apart` numbers from each other; `highest` becomes their weights.
template <class T>
void merge(int64_t n_parts, int64_t d, const T* out, int64_t apart, T* highest, const T* sum, T* y) {
  const T highest_of_all = cpu::lane_max(n_parts, highest);
  T total = 0;
  for (int64_t i = 0; i < n_parts; ++i) {
    highest[i] = std::exp(highest[i] - highest_of_all);
    total += highest[i] * sum[i];
  }
  for (int64_t i = 0; i < n_parts; ++i) {
    const T weight = highest[i] / total;
    if (i == 0)
      cpu::lane_map(
          d, y, [&](const auto& x) { return x * weight; }, out);
    else
      cpu::lane_map(
          d, y, [&](const auto& x, const auto& before) { return before + x * weight; }, out + i * apart, y);
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
                const KeyValueCache& cache, const Tensor& raw) {
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
      if (raw) std::copy(pair, pair + 2 * d, raw.data<T>() + (sequence * raw.dim(1) + row % raw.dim(1)) * 2 * d);
    }
  });
}

void attention_decode(Cpu, const Tensor& at, int64_t heads, const Attended& seen, const Tensor& y, int64_t column) {
  const Tensor &q = seen.q, &q_scale = seen.q_scale, &table = seen.table;
  const KeyValueCache& cache = seen.cache;
  const std::span<const CachePlace> places = places_of(at);
  const int64_t d = q.dim(-1) / heads;
  const auto seen_from = [&](int64_t query) {
    const CachePlace& p = places[size_t(query)];
    return cache.all ? CachePlace{p.sequence, 0, cache.rows} : p;
  };
  dispatch_float(q.dtype(), [&]<class T>() {
    // A tile is a part of one query's keys, so that no thread reads them all: some hundred thousand multiplications.
    const int64_t length = padded(std::max<int64_t>(1, 131072 / (heads * d)), kChunk<T>);
    // Parts begin at multiples of their length: they do not move while the window does.
    const auto parts_of = [&](int64_t query) {
      const CachePlace p = seen_from(query);
      return (p.last - 1) / length - p.first / length + 1;
    };
    const int64_t n = int64_t(places.size()), wide = padded(d, Register<T>::length);
    int64_t n_parts = 0;
    for (int64_t query = 0; query < n; ++query) n_parts = std::max(n_parts, parts_of(query));
    cpu::Scratch scratch;
    T *out = scratch.get<T>(n * n_parts * heads * wide), *highest = scratch.get<T>(n * heads * n_parts),
      *sum = scratch.get<T>(n * heads * n_parts);
    parallel_for(n * n_parts, [&](int64_t tile) {
      const int64_t query = tile / n_parts, i = tile % n_parts;
      if (i >= parts_of(query)) return;
      const CachePlace p = seen_from(query);
      const int64_t begin = (p.first / length + i) * length;
      const T* angles = data_or_null<T>(table);
      const int64_t at = query * heads * n_parts + i;
      attend(heads, d, seen.factor, std::max(p.first, begin), std::min(p.last, begin + length),
             q.data<T>() + query * heads * d, data_or_null<T>(q_scale), angles ? angles + (p.last - 1) * d : nullptr,
             cache.keys.data<T>() + p.sequence * cache.keys.dim(1),
             cache.values.data<T>() + p.sequence * cache.values.dim(1),
             Part<T>{out + tile * heads * wide, highest + at, sum + at, n_parts});
    });
    parallel_for(n, [&](int64_t query) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t at = (query * heads + h) * n_parts;
        merge(parts_of(query), d, out + (query * n_parts * heads + h) * wide, heads * wide, highest + at, sum + at,
              y.data<T>() + query * y.dim(-1) + column + h * d);
      }
    });
  });
}

}  // namespace rondo
