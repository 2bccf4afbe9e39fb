// Rows of a table by index, and their sums on the way back.
#include <cstring>

#include "tensor/cpu/lanes.h"
#include "tensor/cpu/rows.h"
#include "tensor/kernels.h"

namespace rondo {

using namespace cpu;

void embedding_forward(Cpu, const Tensor& weight, const Tensor& tokens, const Tensor& y) {
  const size_t row = size_t(row_width(weight)) * size_of(weight.dtype());
  if (row == 0) return;  // empty tensors have no address to copy from
  const int64_t* token = tokens.data<int64_t>();
  const char* from = static_cast<const char*>(weight.bytes());
  char* to = static_cast<char*>(y.bytes());
  parallel_chunks(tokens.numel(), rows_per_tile(row_width(weight)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::memcpy(to + i * row, from + token[i] * row, row);
  });
}

// Each tile adds a strip of columns of all tokens, in their order. (Tiles of vocabulary would be uneven: text in bytes
// uses a few dozen rows.)
void embedding_backward(Cpu, const Tensor& dy, const Tensor& tokens, const Tensor& dweight) {
  fill(Cpu{}, 0, dweight);
  const int64_t d = row_width(dweight), n_tokens = tokens.numel();
  const int64_t* token = tokens.data<int64_t>();
  dispatch_float(dy.dtype(), [&]<class T>() {
    const T* dys = dy.data<T>();
    T* sums = dweight.data<T>();
    parallel_chunks(d, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < n_tokens; ++i) {
        T* sum = sums + token[i] * d + begin;
        lane_map(end - begin, sum, kSum, sum, dys + i * d + begin);
      }
    });
  });
}

}  // namespace rondo
