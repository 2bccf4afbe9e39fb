#include "models/block_recurrent/precision.h"

#include <algorithm>
#include <cmath>

#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

template <class F>
void each_linear(BlockRecurrentTransformer& model, F&& f) {
  for (auto& layer : model.layers) {
    AttentionBlock& a = layer.attention;
    for (Linear* l : {&a.to_q, &a.to_kv, &a.to_out, &layer.feed_forward.in, &layer.feed_forward.out}) f(*l);
    if (!a.state_container) continue;
    StateContainer& s = *a.state_container;
    for (Linear* l :
         {&s.q_to_state, &s.q_from_state, &s.state_to_q, &s.state_to_kv, &s.to_state_out, &s.state_out_to_gate})
      f(*l);
  }
  f(model.head);
}

void to_int8(Linear& l) {
  const int64_t n = l.weight.dim(0), k = l.weight.dim(1);
  const Tensor weight({n, k}, DType::i8), scale({n}, DType::f32);
  for (int64_t i = 0; i < n; ++i) {
    const float* row = l.weight.data<float>() + i * k;
    float largest = 0;
    for (int64_t j = 0; j < k; ++j) largest = std::max(largest, std::abs(row[j]));
    scale.data<float>()[i] = largest / 127;
    const float to_steps = largest > 1e-36f ? 127 / largest : 0;  // of what is smaller the quotient may be infinite
    for (int64_t j = 0; j < k; ++j) weight.data<int8_t>()[i * k + j] = int8_t(std::lround(row[j] * to_steps));
  }
  l.weight = weight, l.weight_scale = scale;
}

}  // namespace

void compute_in(BlockRecurrentTransformer& model, DType dtype) {
  check(dtype == DType::f32 || dtype == DType::bf16, "a model computes in f32 or bf16, not ", dtype);
  check(dtype == DType::f32 || (model.dtype == DType::f32 && weights_dtype(model) == DType::f32),
        "computing in bf16 asks for weights of f32, but these are ", weights_dtype(model));
  const std::optional<DType> narrow = dtype == DType::bf16 ? std::optional(dtype) : std::nullopt;
  for (auto& layer : model.layers) {
    layer.attention.norm.result = layer.feed_forward.norm.result = narrow;
    if (auto& s = layer.attention.state_container) s->compute = narrow;
  }
}

std::string why_no_bf16(Device device) {
  const bool can = dispatch(device, [](auto d) { return multiplies_bf16(d); });
  return can ? "" : "this processor has no instructions for products of bf16 (AVX512-BF16 or AMX)";
}

DType computes_in(const BlockRecurrentTransformer& model) {
  return model.layers[0].attention.norm.result.value_or(model.dtype);
}

void convert_weights(BlockRecurrentTransformer& model, DType dtype) {
  check(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::i8, "weights become f32, bf16 or i8, not ",
        dtype);
  check(weights_dtype(model) == DType::f32, "only f32 weights are converted, but these are ", weights_dtype(model));
  for (const NamedTensor& t : named_tensors(model)) {
    if (dtype != DType::i8) break;
    const bool finite = dispatch(t.tensor.device(), [&](auto d) { return first_non_finite(d, t.tensor); }) < 0;
    check(finite, t.name, " holds a NaN or an infinity, for which int8 has no number");
  }
  each_linear(model, [&](Linear& l) {
    if (dtype == DType::bf16) l.weight = to(l.weight, DType::bf16);
    if (dtype == DType::i8) to_int8(l);
  });
}

DType weights_dtype(const BlockRecurrentTransformer& model) { return model.head.weight.dtype(); }

std::string weights_name(DType dtype) { return dtype == DType::i8 ? "int8" : name_of(dtype); }

DType weights_dtype(const std::string& name) {
  for (const DType d : {DType::f32, DType::bf16, DType::i8})
    if (weights_name(d) == name) return d;
  fail("weights are f32, bf16 or int8, not ", name);
}

}  // namespace rondo
