// What decoding keeps of attention.
#pragma once
#include "tensor/tensor.h"

namespace rondo {

// Prepared keys and values of some sequences, a row a key, in a layout of the kernels' own (tensor/kernels.h). The
// first dimension is the sequence.
struct KeyValueCache {
  Tensor keys, values;
};

// Where a token is: a query sees the rows first..last-1 of its sequence's cache, and its own key is the last of them.
struct CachePlace {
  int64_t sequence, first, last;
};

}  // namespace rondo
