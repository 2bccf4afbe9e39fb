// What decoding keeps of attention.
#pragma once
#include <cstring>
#include <span>

#include "tensor.h"

namespace rondo {

// Prepared keys and values of some sequences, a row a key, in a layout of the kernels' own (tensor/cpu/decode.cpp,
// cuda/key_value_cache.cu). The first dimension is the sequence.
struct KeyValueCache {
  Tensor keys, values;
  int64_t rows = 0;
  bool all = false;  // a query sees every row, wherever it stands
};

// Where a token is: a query sees the rows first..last-1 of its sequence's cache, and its own key is the last of them.
struct CachePlace {
  int64_t sequence, first, last;
};
// Places as kernels take them: [n, 3] i64, a row a token. A captured pass reads new ones from the same memory.
inline Tensor tensor_of(std::span<const CachePlace> places) {
  const Tensor t({int64_t(places.size()), 3}, DType::i64);
  if (!places.empty()) std::memcpy(t.bytes(), places.data(), places.size_bytes());
  return t;
}

}  // namespace rondo
