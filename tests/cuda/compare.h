// A kernel of CUDA beside the CPU's: the same inputs, results compared.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "autograd/arguments.h"
#include "cuda/context.h"
#include "tensor/kernels.h"
#include "tests/testing.h"

namespace rondo::testing {

using List = std::vector<Tensor>;

// Between two results of the same dtype, where neighbours among the numbers of bf16 count as the same: what is rounded
// may go the other way.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  if (a.dtype() != DType::bf16) return max_abs_diff(a, b);
  const std::vector<double> x = values(a), y = values(b);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double difference = std::abs(x[i] - y[i]), size = std::max(std::abs(x[i]), std::abs(y[i]));
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    if (std::isfinite(size) && difference <= std::ldexp(1, std::ilogb(std::max(size, 0x1p-126)) - 7)) continue;
    worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
  }
  return worst;
}

// Calls f(device tag, inputs, outputs) on both devices. Outputs are given as shapes and dtypes, begin as garbage, and
// agree up to `tolerance` times the largest number of each: with as many blocks as there is work for, and with two,
// which give the same bits again.
template <class F>
void check_same(const char* what, const List& in, const List& like, double tolerance, F&& f) {
  const auto fresh = [&](Device device) {
    List out;
    for (const Tensor& t : like) out.push_back(Tensor(t.shape(), t.dtype(), device));
    return out;
  };
  const List expected = fresh(Device::cpu), there = on(Device::cuda, in);
  f(Cpu{}, in, expected);
  const auto found = [&](int64_t most_blocks) {
    const int64_t before = std::exchange(cuda::most_blocks, most_blocks);
    const List out = fresh(Device::cuda);
    f(Cuda{}, there, out);
    cuda::most_blocks = before;
    return on(Device::cpu, out);
  };
  const List runs[] = {found(cuda::most_blocks), found(2), found(2)};
  for (size_t i = 0; i < like.size(); ++i) {
    double largest = 1;
    for (double v : values(expected[i]))
      if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
    for (const List& run : runs)
      CHECK_MESSAGE(largest_difference(run[i], expected[i]) <= tolerance * largest, std::string(what), " ",
                    in[0].shape(), " ", in[0].dtype(), ", output ", i);
    CHECK_MESSAGE(same_bits(runs[1][i], runs[2][i]), std::string(what), ": not the same bits again");
  }
}

// The exponentials, divisions and square roots of both are within an ulp or two, and sums of n terms, taken in another
// order, within a few; the largest rows here have 1000 numbers. What is rounded to bf16 may go the other way.
inline double tolerance_of(DType dtype) { return dtype == DType::bf16 ? 0x1p-8 : dtype == DType::f32 ? 4e-6 : 1e-13; }

inline const DType kDTypes[] = {DType::f32, DType::f64};
inline const DType kActivations[] = {DType::f32, DType::f64, DType::bf16};

inline Tensor like(const Shape& shape, DType dtype) { return Tensor(shape, dtype); }

}  // namespace rondo::testing
