// Numbers of fewer bits: in what is computed, for training, and in weights, for inference.
#pragma once
#include <string>

#include "model.h"

namespace rondo {

// From now on the model computes in f32, as it does when it is made, or in bf16 (mixed precision, Micikevicius et al.
// 2018): what the products of its layers take and give is bf16, their sums are f32. Parameters, their gradients, the
// residual stream, norms, states, the head and the loss stay f32; memories are then bf16.
void compute_in(BlockRecurrentTransformer& model, DType dtype);
// Whether bf16 pays there; if not, why, in words: the results are the same, but computing takes longer than in f32.
std::string why_no_bf16(Device device);
DType computes_in(const BlockRecurrentTransformer& model);

// Weights in fewer bits, for inference: those of all products, which is nearly all there are. Activations, norms,
// embedding and states stay f32. f32 weights become bf16, or i8: each row times 127 / its largest element, rounded,
// with the scale that undoes it. f32 leaves them as they are.
void convert_weights(BlockRecurrentTransformer& model, DType dtype);
DType weights_dtype(const BlockRecurrentTransformer& model);

// "f32", "bf16" or "int8", as options and files have it.
std::string weights_name(DType dtype);
DType weights_dtype(const std::string& name);

}  // namespace rondo
