// A training step in LibTorch.
#pragma once
#include "bench/libtorch/model.h"

namespace libtorch {

// Loss and gradients over segments of max_seq_len tokens, each with what the one before left; returns the mean loss.
// tokens and labels [B, m*N].
double accumulate_gradients(Model& model, const Tensor& tokens, const Tensor& labels, bool autocast = false);

}  // namespace libtorch
