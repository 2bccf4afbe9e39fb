#include "autograd/rounded.h"

#include <utility>
#include <vector>

#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

struct Kept {
  uint64_t weight;
  Padding padding;
  Tensor copy;
};
thread_local int alive = 0;
thread_local std::vector<Kept> kept;

bool pads(const Padding& p) { return p.rows > 0 || p.columns > 0; }

// f(rows, padded rows, number of rows, their width) for each group of a weight of that shape.
template <class F>
void each_group(const Shape& weight, const Padding& p, const F& f) {
  const int64_t n = weight[0] / p.groups, k = weight[1], wide = k + p.columns, tall = n + p.rows;
  for (int64_t g = 0; g < p.groups; ++g) f(Rows{g * n * k, k}, Rows{g * tall * wide, wide}, n, k);
}

Tensor make(const Tensor& weight, DType dtype, const Padding& p) {
  const Tensor w = to(weight, dtype);
  if (!pads(p)) return w;
  const Tensor y = zeros({w.dim(0) + p.groups * p.rows, w.dim(1) + p.columns}, dtype, w.device());
  each_group(w.shape(), p, [&](Rows inner, Rows padded, int64_t n, int64_t k) {
    dispatch(w.device(), [&](auto device) { copy_rows(device, w, inner, y, padded, n, k); });
  });
  return y;
}

}  // namespace

RoundedWeights::RoundedWeights() { ++alive; }
RoundedWeights::~RoundedWeights() {
  if (--alive == 0) kept.clear();
}
bool RoundedWeights::any() { return alive > 0; }

Tensor multiplied(const Tensor& x, const Tensor& weight, const Padding& p) {
  const DType dtype = x.device() == Device::cpu ? weight.dtype() : x.dtype();
  if (dtype == weight.dtype() && !pads(p)) return weight;
  if (!alive || !weight.is_parameter()) return make(weight, dtype, p);
  for (const Kept& k : kept)
    if (k.weight == weight.id() && k.copy.dtype() == dtype && k.padding.rows == p.rows &&
        k.padding.groups == p.groups && k.padding.columns == p.columns)
      return k.copy;
  kept.push_back({weight.id(), p, make(weight, dtype, p)});
  return kept.back().copy;
}

}  // namespace rondo
