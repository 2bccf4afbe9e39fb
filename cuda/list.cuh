// A short list of tensors as the argument of a kernel: no copy to the device, no wait for it, and a captured launch
// keeps it. Longer lists go in several launches. All tensors of a list are cut into chunks, a block a chunk, so that
// many small ones fill the device as a large one would.
#pragma once
#include <cstdint>

#include "cuda/device.cuh"

namespace rondo::cuda {

template <class Item>
struct List {
  static constexpr int kMost = 3584 / sizeof(Item);  // a kernel's arguments have 4 KB in all
  int n = 0;
  Item items[kMost] = {};  // whole: a debugger that looks for pointers in the arguments finds no old ones

  bool full() const { return n == kMost; }
  void add(const Item& item) { items[n++] = item; }
};

inline constexpr int64_t kChunk = 4096;

// Calls run(list, number of its chunks) for tensors 0..n-1, as many at a time as a list takes. item(i) is tensor i,
// with its `numel` elements; its `first` chunk is filled in.
template <class Item, class Make, class Run>
void in_lists(int64_t n, Make&& item, Run&& run) {
  for (int64_t i = 0; i < n;) {
    List<Item> list;
    int64_t chunks = 0;
    for (; i < n && !list.full(); ++i) {
      Item next = item(size_t(i));
      next.first = chunks;
      chunks += (next.numel + kChunk - 1) / kChunk;
      list.add(next);
    }
    run(list, chunks);
  }
}

// The tensor of a chunk: the last that begins there or before.
template <class Item>
__device__ int tensor_of(const List<Item>& list, int64_t chunk) {
  int at = 0;
  for (int end = list.n; end - at > 1;) {
    const int middle = (at + end) / 2;
    (list.items[middle].first <= chunk ? at : end) = middle;
  }
  return at;
}

}  // namespace rondo::cuda
