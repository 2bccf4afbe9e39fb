// Losses made of ops: each is the mean over all elements, one number of shape (). Prediction and target, f32 or f64,
// have one shape, any: nothing is repeated, which here is a mistake as a rule, and they throw. For classes:
// cross_entropy (autograd/ops.h).
#pragma once
#include "../autograd/ops.h"

namespace rondo {

inline void check_targets(const char* loss, const char* name, const Tensor& prediction, const Tensor& target) {
  check(bool(prediction) && bool(target), loss, ": ", prediction ? "target" : name, " is missing");
  check(prediction.shape() == target.shape(), loss, ": the shapes of ", name, " and target are ", prediction.shape(),
        " and ", target.shape(), ", but must be the same");
  const DType d = prediction.dtype(), of_target = target.dtype();
  check(d == of_target && (d == DType::f32 || d == DType::f64), loss, ": ", name, " is ", d, " and target ", of_target,
        ", but both must be f32, or both f64; to(tensor, DType::f32) makes them so");
}

// (prediction - target)^2
inline Tensor mean_squared_error(const Tensor& prediction, const Tensor& target) {
  check_targets("mean_squared_error", "prediction", prediction, target);
  const Tensor d = prediction - target;
  return mean(d * d);
}

// d^2 / 2 where |d| <= delta, from there on a straight line, delta (|d| - delta / 2), with d = prediction - target
// (Huber 1964).
inline Tensor huber(const Tensor& prediction, const Tensor& target, double delta = 1) {
  check_targets("huber", "prediction", prediction, target);
  check(delta > 0, "huber: delta is ", delta, ", but must be above 0");
  const Tensor d = abs(prediction - target), near = clamp(d, 0, delta);
  return mean(near * (d - near / 2));
}

// -(t log p + (1 - t) log(1 - p)) for p = sigmoid(logits) and targets t from 0 to 1, without computing p: exact also
// where p is next to t. Targets on the CPU are looked at.
inline Tensor binary_cross_entropy(const Tensor& logits, const Tensor& target) {
  check_targets("binary_cross_entropy", "logits", logits, target);
  if (target.device() == Device::cpu)
    dispatch_float(target.dtype(), [&]<class T>() {
      const T* const t = target.data<T>();
      for (int64_t i = 0; i < target.numel(); ++i)
        check(t[i] >= 0 && t[i] <= 1, "binary_cross_entropy: target holds ", t[i], " at index ", i,
              ", but must be from 0 to 1");
    });
  return mean(target * softplus(-logits) + (1 - target) * softplus(logits));
}

}  // namespace rondo
