// Rows of a table by index, and their sums on the way back.
#include <limits>

#include "cuda/launch.cuh"

namespace rondo {
namespace {

using namespace cuda;

// Nobody looked at the tokens: what is none has a row of NaN, and no gradient.
template <class T>
struct Gather {
  int64_t n_rows, d;
  const T* weight;
  const int64_t* tokens;
  T* y;
  __device__ void operator()(int64_t i) const {
    const int64_t t = tokens[i / d];
    y[i] = t >= 0 && t < n_rows ? weight[t * d + i % d] : std::numeric_limits<T>::quiet_NaN();
  }
};

// A thread adds one column of all tokens, in their order: the same bits in every run.
template <class T>
struct AddColumn {
  int64_t n_rows, d, n_tokens;
  const T* dy;
  const int64_t* tokens;
  T* dweight;
  __device__ void operator()(int64_t column) const {
    for (int64_t i = 0; i < n_tokens; ++i)
      if (const int64_t t = tokens[i]; t >= 0 && t < n_rows) dweight[t * d + column] += dy[i * d + column];
  }
};

}  // namespace

void embedding_forward(Cuda, const Tensor& weight, const Tensor& tokens, const Tensor& y) {
  dispatch_float(weight.dtype(), [&]<class T>() {
    for_each(y.numel(),
             Gather<T>{weight.dim(0), row_width(weight), data<T>(weight), data<int64_t>(tokens), data<T>(y)});
  });
}

void embedding_backward(Cuda, const Tensor& dy, const Tensor& tokens, const Tensor& dweight) {
  fill(Cuda{}, 0, dweight);
  const int64_t d = row_width(dweight);
  dispatch_float(dy.dtype(), [&]<class T>() {
    for_each(d, AddColumn<T>{dweight.dim(0), d, tokens.numel(), data<T>(dy), data<int64_t>(tokens), data<T>(dweight)});
  });
}

}  // namespace rondo
