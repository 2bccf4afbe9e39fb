// Rows of a table, chosen by tokens. Kept for the backward pass: the tokens.
#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {

int64_t first_token_outside(const Tensor& tokens, int64_t n, int64_t also_allowed) {
  const int64_t* token = tokens.data<int64_t>();
  const auto outside = [=](int64_t t) { return ((t < 0) | (t >= n)) & (t != also_allowed); };
  bool any = false;  // without a way out, the loop is vectorised
  for (int64_t i = 0; i < tokens.numel(); ++i) any |= outside(token[i]);
  if (!any) return -1;
  int64_t i = 0;
  while (!outside(token[i])) ++i;
  return i;
}

Tensor embedding(const Tensor& weight, const Tensor& given) {
  check_float("embedding", "weight", weight);
  check_indices("embedding", "tokens", given, "weight", weight);
  check(weight.rank() == 2, "embedding: weight has shape ", weight.shape(), ", but the op asks for (V, d)");
  const int64_t n_rows = weight.dim(0);
  check(n_rows > 0 || given.numel() == 0, "embedding: weight ", weight.shape(), " has no rows, but tokens ",
        given.shape(), " ask for some");
  const int64_t bad = given.device() == Device::cpu ? first_token_outside(given, n_rows, 0) : -1;
  if (bad >= 0)
    fail("embedding: tokens hold ", given.data<int64_t>()[bad], " at index ", bad, ", but weight ", weight.shape(),
         " has V = ", n_rows, " rows");
  const Tensor tokens = to(given, weight.device());
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
