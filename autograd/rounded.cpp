#include "autograd/rounded.h"

#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

thread_local WeightCopies* in_use = nullptr;

}  // namespace

WeightCopies::WeightCopies() = default;
WeightCopies::~WeightCopies() = default;

// A kernel's call for each run of copies of the same dtypes; as a rule all are of one.
void WeightCopies::make_again() {
  for (size_t begin = 0, end = 0; begin < copies_.size(); begin = end) {
    const auto& [weight, copy, groups] = copies_[begin];
    while (end < copies_.size() && copies_[end].copy.dtype() == copy.dtype() &&
           copies_[end].weight.dtype() == weight.dtype())
      ++end;
    dispatch(copy.device(), [&](auto device) { copy_weights(device, std::span(copies_).subspan(begin, end - begin)); });
  }
}

Tensor WeightCopies::of(const Tensor& weight, const Shape& shape, DType dtype, int64_t groups) {
  for (const WeightCopy& c : copies_)
    if (c.weight.id() == weight.id() && c.copy.dtype() == dtype && c.copy.shape() == shape && c.groups == groups)
      return c.copy;
  const WeightCopy made = {weight, Tensor(shape, dtype, weight.device()), groups};
  dispatch(weight.device(), [&](auto device) { copy_weights(device, {&made, 1}); });
  copies_.push_back(made);
  return made.copy;
}

RoundedWeights::RoundedWeights() : outer_(in_use) {
  if (!in_use) in_use = &own_;
}
RoundedWeights::RoundedWeights(WeightCopies& copies) : outer_(in_use) {
  if (in_use) return;
  copies.make_again();
  in_use = &copies;
}
RoundedWeights::~RoundedWeights() { in_use = outer_; }
bool RoundedWeights::any() { return in_use; }

Tensor multiplied(const Tensor& x, const Tensor& weight, const Padding& p) {
  const DType dtype = x.device() == Device::cpu ? weight.dtype() : x.dtype();
  const Shape shape = {weight.dim(0) + p.groups * p.rows, weight.dim(1) + p.columns};
  if (dtype == weight.dtype() && shape == weight.shape()) return weight;
  WeightCopies once;
  return (in_use && weight.is_parameter() ? *in_use : once).of(weight, shape, dtype, p.groups);
}

}  // namespace rondo
