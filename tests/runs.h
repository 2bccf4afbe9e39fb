// An op run forwards and backwards, for comparing runs: in f32 with f64, on one thread with several.
#pragma once
#include <vector>

#include "tensor/parallel.h"
#include "tests/gradcheck.h"

namespace rondo::testing {

// The results of run() have the same bits for 1, 2 and 3 threads.
inline void check_same_bits_on_threads(const Op& op, const std::vector<Tensor>& inputs) {
  const int before = num_threads();
  set_num_threads(1);
  const std::vector<Tensor> expected = run(op, inputs);
  for (int n : {2, 3}) {
    set_num_threads(n);
    const std::vector<Tensor> found = run(op, inputs);
    for (size_t i = 0; i < expected.size(); ++i)
      CHECK_MESSAGE(same_bits(found[i], expected[i]), n, " threads, result ", i);
  }
  set_num_threads(before);
}

// In f32 an op gives what it gives in f64, up to `tolerance` times the largest number of each result; on every device.
inline void check_f32_against_f64(const Op& op, const std::vector<Tensor>& inputs, double tolerance) {
  std::vector<Tensor> rounded;
  for (const Tensor& t : inputs) rounded.push_back(is_float(t.dtype()) ? to(t, DType::f32) : t);
  std::vector<Tensor> exact;
  for (const Tensor& t : rounded) exact.push_back(is_float(t.dtype()) ? to(t, DType::f64) : t);
  // The weights of the loss are drawn anew in each dtype, so they too agree to f32 only.
  const std::vector<Tensor> expected = run(op, exact);
  for (const Device device : devices()) check_close(run(op, on(device, rounded)), expected, tolerance, device);
}

}  // namespace rondo::testing
