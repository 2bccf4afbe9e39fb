// Checks of arguments that many ops share. Private to autograd.
#pragma once
#include "tensor/tensor.h"

namespace rondo {

inline void check_float(const char* op, const char* name, const Tensor& x) {
  check(bool(x), op, ": ", name, " is missing");
  check(x.dtype() == DType::f32 || x.dtype() == DType::f64, op, ": ", name, " is ", x.dtype(),
        ", but the op computes in f32 or f64", x.dtype() == DType::bf16 ? "; cast(x, DType::f32) makes it f32" : "");
}

// That x is what activations may be: f32, f64, or bf16, whose sums are made in f32.
inline void check_activation(const char* op, const char* name, const Tensor& x) {
  check(bool(x), op, ": ", name, " is missing");
  check(is_float(x.dtype()), op, ": ", name, " is ", x.dtype(), ", but the op computes in f32, f64 or bf16");
}
// What goes with activations of a dtype: parameters, sums, residuals.
inline DType dtype_beside(DType activations) { return activations == DType::bf16 ? DType::f32 : activations; }
inline void check_beside(const char* op, const char* name, const Tensor& t, const char* x_name, const Tensor& x) {
  check(bool(t), op, ": ", name, " is missing");
  check(t.dtype() == dtype_beside(x.dtype()), op, ": ", name, " is ", t.dtype(), ", but ", x_name, " is ", x.dtype(),
        x.dtype() == DType::bf16 ? ", which asks for f32" : "");
  check(t.device() == x.device(), op, ": ", name, " is on ", t.device(), ", but ", x_name, " is on ", x.device());
}

// That t has the dtype and the device of x.
inline void check_alike(const char* op, const char* name, const Tensor& t, const char* x_name, const Tensor& x) {
  check(bool(t), op, ": ", name, " is missing");
  check(bool(x), op, ": ", x_name, " is missing");
  check(t.dtype() == x.dtype(), op, ": ", name, " is ", t.dtype(), ", but ", x_name, " is ", x.dtype());
  check(t.device() == x.device(), op, ": ", name, " is on ", t.device(), ", but ", x_name, " is on ", x.device());
}

// The index of an axis of x, where -1 is the last one.
inline int axis_of(const char* op, const char* name, int axis, const char* x_name, const Tensor& x) {
  check(axis >= -x.rank() && axis < x.rank(), op, ": ", name, " is ", axis, ", but ", x_name, " has shape ", x.shape());
  return axis < 0 ? axis + x.rank() : axis;
}

// That `indices` are i64, and on the device of x or on the CPU.
inline void check_indices(const char* op, const char* name, const Tensor& indices, const char* x_name,
                          const Tensor& x) {
  check(bool(indices), op, ": ", name, " is missing");
  check(indices.dtype() == DType::i64, op, ": ", name, " is ", indices.dtype(),
        ", but indices are i64; to(tensor, DType::i64) makes them so");
  check(indices.device() == x.device() || indices.device() == Device::cpu, op, ": ", name, " is on ", indices.device(),
        ", but ", x_name, " is on ", x.device());
}

}  // namespace rondo
