// What tests share: doctest, random tensors, comparisons, and skips that are counted.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tensor/random.h"
#include "tensor/tensor.h"

namespace rondo::testing {

// The message of the Error that f throws; "(no error)" if it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "(no error)";
}

// N(0, 1), from a seed that depends on nothing but the argument.
inline Tensor randn(const Shape& shape, DType dtype = DType::f64, uint64_t seed = 1) {
  if (dtype == DType::bf16) return to(randn(shape, DType::f32, seed), dtype);
  Tensor t(shape, dtype);
  Generator g{seed, 77, 0};
  fill_normal(t, 0, 1, g);
  return t;
}

// The elements as doubles, whatever the dtype.
inline std::vector<double> values(const Tensor& t) { return to(detach(t), DType::f64).to_vector<double>(); }

// The largest |a - b|; infinity when shapes differ or one side alone is NaN.
inline double max_abs_diff(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape())) return INFINITY;
  const std::vector<double> x = values(a), y = values(b);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i]) && std::isnan(y[i])) continue;
    const double d = std::abs(x[i] - y[i]);
    worst = d <= worst ? worst : (std::isnan(d) ? (x[i] == y[i] ? worst : INFINITY) : d);
  }
  return worst;
}

// Same shape, dtype and bits.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.n_bytes() == 0 || std::memcmp(a.bytes(), b.bytes(), a.n_bytes()) == 0);
}

// Every device this program can compute on: the CPU, and a GPU or its emulation.
inline const std::vector<Device>& devices() {
  static const std::vector<Device> all =
      why_unusable(Device::cuda).empty() ? std::vector{Device::cpu, Device::cuda} : std::vector{Device::cpu};
  return all;
}

// The tensors on a device; missing ones stay missing.
inline std::vector<Tensor> on(Device device, const std::vector<Tensor>& tensors) {
  std::vector<Tensor> there;
  for (const Tensor& t : tensors) there.push_back(t ? to(t, device) : t);
  return there;
}

// Ends a test case as skipped: the reason is printed and counted, never passed over.
void skip(const std::string& reason);

}  // namespace rondo::testing
