// Cross entropy, fused: probabilities are never stored, only the log of their sum, one number a row.
#include "autograd/arguments.h"
#include "autograd/ops.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

void check_labels(const Tensor& logits, const Tensor& labels, int64_t ignore_index) {
  check_float("cross_entropy", "logits", logits);
  check_indices("cross_entropy", "labels", labels, "logits", logits);
  check(logits.rank() >= 1, "cross_entropy: logits have shape ", logits.shape(), ", but the op asks for rows");
  Shape rows = logits.shape();
  rows.pop_back();
  check(labels.shape() == rows, "cross_entropy: labels have shape ", labels.shape(), ", but logits ", logits.shape(),
        " ask for ", rows);
  const bool here = labels.device() == Device::cpu;
  const int64_t bad = here ? first_token_outside(labels, logits.dim(-1), ignore_index) : -1;
  if (bad >= 0)
    fail("cross_entropy: labels hold ", labels.data<int64_t>()[bad], " at index ", bad, ", but logits ", logits.shape(),
         " have V = ", logits.dim(-1), " classes (", ignore_index, " is ignored)");
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& given, int64_t ignore_index) {
  check_labels(logits, given, ignore_index);
  const Tensor labels = to(given, logits.device());
  Tensor loss({}, logits.dtype(), logits.device()), lse(labels.shape(), logits.dtype(), logits.device());
  Tensor count({}, DType::i64, logits.device());
  dispatch(logits.device(),
           [&](auto device) { cross_entropy_forward(device, logits, labels, ignore_index, loss, lse, count); });
  return record("cross_entropy", {logits}, loss, [=](const Tensor& dloss) -> Grads {
    Tensor dlogits = empty_like(logits);
    dispatch(logits.device(), [&](auto device) {
      cross_entropy_backward(device, dloss, logits, labels, ignore_index, lse, count, dlogits);
    });
    return {dlogits};
  });
}

}  // namespace rondo
