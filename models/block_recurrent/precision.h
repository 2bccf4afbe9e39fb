// Weights in fewer bits, for inference: those of all products, which is nearly all there are. Activations, norms,
// embedding and states stay f32.
#pragma once
#include <string>

#include "models/block_recurrent/model.h"

namespace rondo {

// f32 weights become bf16, or i8: each row times 127 / its largest element, rounded, with the scale that undoes it.
// f32 leaves them as they are.
void convert_weights(BlockRecurrentTransformer& model, DType dtype);
DType weights_dtype(const BlockRecurrentTransformer& model);

// "f32", "bf16" or "int8", as options and files have it.
std::string weights_name(DType dtype);
DType weights_dtype(const std::string& name);

}  // namespace rondo
