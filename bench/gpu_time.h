// Time on a GPU, which works in order, while the host goes on.
#pragma once
#include "bench/rows.h"
#include "tensor/random.h"

namespace rondo::bench {

inline constexpr int kTimes = 20;  // between one wait for the GPU and the next

void wait_for_gpu();
double seconds_on_gpu(const auto& work) {  // of one of kTimes
  work(0);                                 // warms up
  wait_for_gpu();
  return seconds_of([&] {
           for (int i = 0; i < kTimes; ++i) work(i);
           wait_for_gpu();
         }) /
         kTimes;
}

// On the GPU, between -2 and 2; a parameter.
Tensor random(const Shape& shape, DType dtype, Generator& g);

}  // namespace rondo::bench
