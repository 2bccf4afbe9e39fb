// Rows of a table, chosen by tokens. Kept for the backward pass: the tokens.
#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {

Tensor embedding(const Tensor& weight, const Tensor& tokens) {
  check_float("embedding", "weight", weight);
  check_indices("embedding", "tokens", tokens, "weight", weight);
  check(weight.rank() == 2, "embedding: weight has shape ", weight.shape(), ", but the op asks for (V, d)");
  const int64_t n_rows = weight.dim(0);
  check(n_rows > 0 || tokens.numel() == 0, "embedding: weight ", weight.shape(), " has no rows, but tokens ",
        tokens.shape(), " ask for some");
  const int64_t bad =
      dispatch(weight.device(), [&](auto device) { return first_token_outside(device, tokens, n_rows, 0); });
  if (bad >= 0)
    fail("embedding: tokens hold ", tokens.to_vector<int64_t>()[bad], " at index ", bad, ", but weight ",
         weight.shape(), " has V = ", n_rows, " rows");
  Shape shape = tokens.shape();
  shape.push_back(weight.dim(1));
  Tensor y(shape, weight.dtype(), weight.device());
  dispatch(weight.device(), [&](auto device) { embedding_forward(device, weight, tokens, y); });
  return record("embedding", {weight}, y, [tokens, size = weight.shape()](const Tensor& dy) -> Grads {
    Tensor dweight(size, dy.dtype(), dy.device());
    dispatch(dy.device(), [&](auto device) { embedding_backward(device, dy, tokens, dweight); });
    return {dweight};
  });
}

}  // namespace rondo
