// Copies of weights: in another dtype, and with zeros behind rows and groups of rows; all of them by one kernel.
#include "cuda/list.cuh"
#include "cuda/pack.cuh"

namespace rondo {
namespace {

using namespace cuda;

template <class To, class From>
struct Item {
  const From* from;
  To* to;
  int64_t numel, first;  // of the copy
  int rows, width;       // of a group of the weight
  int tall, wide;        // of a group of the copy

  // The n numbers of the copy from i on, which lie in one row.
  template <int n>
  __device__ void make(int64_t i) const {
    const int64_t row = i / wide;
    const int column = int(i - row * wide), group = int(row / tall), inner = int(row - int64_t(group) * tall);
    const int64_t at = (int64_t(group) * rows + inner) * width + column;
    computed_t<From> v[n] = {};
    if (inner < rows && width % n == 0 && column < width) {
      load_numbers(from + at, v);
    } else if (inner < rows) {
#pragma unroll
      for (int e = 0; e < n; ++e)
        if (column + e < width) v[e] = from[at + e];
    }
    computed_t<To> rounded[n];
#pragma unroll
    for (int e = 0; e < n; ++e) rounded[e] = computed_t<To>(v[e]);
    store_numbers(rounded, to + i);
  }
};

// Block: a chunk of a copy.
template <class To, class From>
__global__ void copy_weights_kernel(List<Item<To, From>> list) {
  constexpr int n = kPerLoad<To>;
  const Item<To, From> item = list.items[tensor_of(list, blockIdx.x)];
  const int64_t begin = (blockIdx.x - item.first) * kChunk, end = min(begin + kChunk, item.numel);
  if (item.wide % n == 0) {
#pragma unroll 2
    for (int64_t i = begin + int(threadIdx.x) * n; i < end; i += int(kThreads) * n) item.template make<n>(i);
  } else {
    for (int64_t i = begin + int(threadIdx.x); i < end; i += int(kThreads)) item.template make<1>(i);
  }
}

}  // namespace

void copy_weights(Cuda, std::span<const WeightCopy> copies) {
  if (copies.empty()) return;
  dispatch_float(copies[0].weight.dtype(), [&]<class From>() {
    dispatch_activation(copies[0].copy.dtype(), [&]<class To>() {
      const auto item = [&](size_t i) {
        const WeightCopy& c = copies[i];
        return Item<To, From>{data<From>(c.weight),
                              data<To>(c.copy),
                              c.copy.numel(),
                              0,
                              int(c.weight.dim(0) / c.groups),
                              int(c.weight.dim(1)),
                              int(c.copy.dim(0) / c.groups),
                              int(c.copy.dim(1))};
      };
      in_lists<Item<To, From>>(int64_t(copies.size()), item, [&](const List<Item<To, From>>& list, int64_t chunks) {
        if (chunks > 0) launch({unsigned(chunks), kThreads, 0, stream()}, copy_weights_kernel<To, From>, list);
      });
    });
  });
}

}  // namespace rondo
