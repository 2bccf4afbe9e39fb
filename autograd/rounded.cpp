#include "autograd/rounded.h"

#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

thread_local WeightCopies* used = nullptr;

}  // namespace

WeightCopies::WeightCopies() = default;
WeightCopies::~WeightCopies() = default;

// A kernel for each run of copies alike; as a rule that is all of them.
void WeightCopies::refresh() {
  for (size_t begin = 0, end = 0; begin < copies_.size(); begin = end) {
    const WeightCopy& first = copies_[begin];
    const auto alike = [&](const WeightCopy& c) {
      return c.copy.device() == first.copy.device() && c.copy.dtype() == first.copy.dtype() &&
             c.weight.dtype() == first.weight.dtype();
    };
    while (end < copies_.size() && alike(copies_[end])) ++end;
    dispatch(first.copy.device(),
             [&](auto device) { copy_weights(device, std::span(copies_).subspan(begin, end - begin)); });
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

WeightCopies::Use::Use(WeightCopies& copies) : before_(used) {
  if (used) return;
  copies.refresh();
  used = &copies;
}
WeightCopies::Use::~Use() { used = before_; }
bool WeightCopies::in_use() { return used; }

Tensor weight_for_product(const Tensor& x, const Tensor& weight, const Padding& p) {
  const DType dtype = x.device() == Device::cpu ? weight.dtype() : x.dtype();
  const Shape shape = {weight.dim(0) + p.groups * p.rows, weight.dim(1) + p.columns};
  if (dtype == weight.dtype() && shape == weight.shape()) return weight;
  WeightCopies once;
  return (used && weight.is_parameter() ? *used : once).of(weight, shape, dtype, p.groups);
}

}  // namespace rondo
