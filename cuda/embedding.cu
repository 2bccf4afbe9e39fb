// Rows of a table by index, and their sums on the way back.
#include "cuda/pack.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class T, int kN>
struct Gather {
  int64_t d;
  const T* weight;
  const int64_t* tokens;
  T* y;
  __device__ void operator()(int64_t run) const {
    const int64_t i = run * kN, row = i / d;
    T v[kN];
    load_numbers(weight + (tokens[row] - row) * d + i, v);
    store_numbers(v, y + i);
  }
};

// Where a row of the table stands among the tokens: kThreads of them at a time.
struct Shared {
  int counts[kThreads / 32];  // what each warp found
  int64_t places[kThreads];
};
// A block for each row of the table. It looks through the tokens for its row and adds up what it finds in their order,
// a thread kColumns columns: the same bits in every run.
template <class T, int kColumns>
__global__ void embedding_backward_kernel(int64_t n_tokens, int64_t d, const T* dy, const int64_t* tokens, T* dweight) {
  Shared& s = shared<Shared>();
  const int64_t row = blockIdx.x, first = (int64_t(blockIdx.y) * kThreads + threadIdx.x) * kColumns;
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 32);
  T sum[kColumns] = {};
  for (int64_t i = 0; i < n_tokens; i += kThreads) {
    const int64_t at = i + threadIdx.x;
    const bool here = at < n_tokens && tokens[at] == row;
    const unsigned found = __ballot_sync(~0u, here);
    if (lane == 0) s.counts[warp] = __popc(found);
    __syncthreads();  // also: the places of the last round were read
    int before = 0, all = 0;
#pragma unroll
    for (int w = 0; w < int(kThreads) / 32; ++w) before += w < warp ? s.counts[w] : 0, all += s.counts[w];
    if (here) s.places[before + __popc(found & ((1u << lane) - 1))] = at;
    __syncthreads();
    if (first < d)
      for (int k = 0; k < all; ++k) {
        T v[kColumns];
        load_numbers(dy + s.places[k] * d + first, v);
#pragma unroll
        for (int e = 0; e < kColumns; ++e) sum[e] += v[e];
      }
  }
  if (first < d) store_numbers(sum, dweight + row * d + first);
}

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
    const int64_t d = row_width(weight);
    dispatch_run<T>(d, [&]<int kN>() {
      for_each(y.numel() / kN, Gather<T, kN>{d, data<T>(weight), data<int64_t>(tokens), data<T>(y)});
    });
  });
}

void embedding_backward(Cuda, const Tensor& dy, const Tensor& tokens, const Tensor& dweight) {
  if (dweight.numel() == 0) return;
  const int64_t d = row_width(dweight), n_rows = row_count(dweight);
  dispatch_float(dy.dtype(), [&]<class T>() {
    dispatch_run<T>(d, [&]<int kColumns>() {
      const dim3 grid(unsigned(n_rows), blocks_for(d, int64_t{kThreads} * kColumns));
      launch({grid, kThreads, sizeof(Shared), stream()}, embedding_backward_kernel<T, kColumns>, tokens.numel(), d,
             data<T>(dy), data<int64_t>(tokens), data<T>(dweight));
    });
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
