// What decoding keeps of attention.
#pragma once
#include "tensor/tensor.h"

namespace rondo {

// Prepared keys and values of some sequences, a row a key, in a layout of the kernels' own (tensor/kernels.h). The
// first dimension is the sequence.
struct KeyValueCache {
  Tensor keys, values;
};

}  // namespace rondo
