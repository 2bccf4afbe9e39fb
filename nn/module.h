// Layers are plain structs of Tensors with operator() and each(f), which calls f(name, tensor, is_parameter) for every
// tensor under the name it has in PyTorch's state dict. A tensor that two layers share is visited once. These helpers
// build on each().
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "../tensor/tensor.h"

namespace rondo {

struct NamedTensor {
  std::string name;
  Tensor tensor;
  bool is_parameter;  // false: saved with the model, never trained (LayerNorm's beta)
};

// Visits a layer inside another one: its names get the prefix ("norm." and so on).
template <class Layer, class F>
void each_in(const std::string& prefix, Layer& layer, F&& f) {
  layer.each([&](const std::string& name, auto& tensor, bool is_parameter) { f(prefix + name, tensor, is_parameter); });
}

// All tensors of a layer or model, in the order of each().
template <class Layer>
std::vector<NamedTensor> named_tensors(const Layer& layer) {
  std::vector<NamedTensor> all;
  const_cast<Layer&>(layer).each([&](const std::string& name, Tensor& t, bool is_parameter) {
    all.push_back({name, t, is_parameter});
  });
  return all;
}

// Those that are trained. To leave some as they are, give an optimizer the others.
template <class Layer>
std::vector<NamedTensor> parameters(const Layer& layer) {
  std::vector<NamedTensor> all;
  for (NamedTensor& t : named_tensors(layer))
    if (t.is_parameter) all.push_back(std::move(t));
  return all;
}

// Throws, in the name of who asks for them, where a parameter is empty or two are the same tensor.
void check_distinct(const char* who, const std::vector<NamedTensor>& parameters);

// Puts made_of(t) in the place of every tensor t, as much a parameter as that was.
template <class Layer, class F>
void replace_each(Layer& layer, F&& made_of) {
  layer.each([&](const std::string&, Tensor& t, bool) {
    const bool trained = t.is_parameter();
    t = made_of(t);
    if (trained) parameter(t);
  });
}

// Moves a layer or model to another device. What was taken from it before (an optimizer's parameters, a decoder's
// caches) stays behind: make those afterwards.
template <class Layer>
void move_to(Layer& layer, Device device) {
  replace_each(layer, [&](const Tensor& t) { return to(t, device); });
}

// A copy with tensors of its own, where a plain copy of a layer shares them. What each() does not visit stays shared.
// (assign copies the elements of one tensor into another, later on.)
template <class Layer>
Layer copy_of(const Layer& layer) {
  Layer copy = layer;
  replace_each(copy, [](const Tensor& t) { return clone(detach(t)); });
  return copy;
}

}  // namespace rondo
