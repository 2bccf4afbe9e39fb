// Rows of a table by index, and their sums on the way back.
#include "cuda/launch.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class T>
struct Gather {
  int64_t d;
  const T* weight;
  const int64_t* tokens;
  T* y;
  __device__ void operator()(int64_t i) const { y[i] = weight[tokens[i / d] * d + i % d]; }
};

// A thread adds one column of all tokens, in their order: the same bits in every run.
template <class T>
struct AddColumn {
  int64_t d, n_tokens;
  const T* dy;
  const int64_t* tokens;
  T* dweight;
  __device__ void operator()(int64_t column) const {
    for (int64_t i = 0; i < n_tokens; ++i) dweight[tokens[i] * d + column] += dy[i * d + column];
  }
};

struct FindOutside {
  const int64_t* tokens;
  int64_t n_rows, also_allowed;
  unsigned long long* first;
  __device__ void operator()(int64_t i) const {
    const int64_t t = tokens[i];
    if ((t < 0 || t >= n_rows) && t != also_allowed) atomicMin(first, (unsigned long long)(i));
  }
};

}  // namespace

void embedding_forward(Cuda, const Tensor& weight, const Tensor& tokens, const Tensor& y) {
  dispatch_float(weight.dtype(), [&]<class T>() {
    for_each(y.numel(), Gather<T>{row_width(weight), data<T>(weight), data<int64_t>(tokens), data<T>(y)});
  });
}

void embedding_backward(Cuda, const Tensor& dy, const Tensor& tokens, const Tensor& dweight) {
  fill(Cuda{}, 0, dweight);
  const int64_t d = row_width(dweight);
  dispatch_float(dy.dtype(), [&]<class T>() {
    for_each(d, AddColumn<T>{d, tokens.numel(), data<T>(dy), data<int64_t>(tokens), data<T>(dweight)});
  });
}

int64_t first_token_outside(Cuda, const Tensor& tokens, int64_t n_rows, int64_t also_allowed) {
  const Tensor first = full({}, double(int64_t{1} << 62), DType::i64, Device::cuda);
  for_each(tokens.numel(), FindOutside{data<int64_t>(tokens), n_rows, also_allowed,
                                       reinterpret_cast<unsigned long long*>(data<int64_t>(first))});
  const int64_t found = to(first, Device::cpu).data<int64_t>()[0];
  return found < tokens.numel() ? found : -1;
}

}  // namespace rondo
