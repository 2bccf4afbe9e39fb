// Matrix products: matmul, and linear with its optional bias and residual.
#include <algorithm>

#include "autograd/arguments.h"
#include "autograd/broadcast.h"
#include "autograd/ops.h"
#include "autograd/rounded.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

// c = op(a) op(b) for a batch of matrices that lie one after the other; `one_a`: a is the same for all.
void products(int64_t batch, int64_t m, int64_t n, int64_t k, const Tensor& a, bool ta, const Tensor& b, bool tb,
              const Tensor& c, bool one_a = false) {
  const Gemm how{.m = m,
                 .n = n,
                 .k = k,
                 .transpose_a = ta,
                 .transpose_b = tb,
                 .lda = ta ? m : k,
                 .ldb = tb ? k : n,
                 .ldc = n,
                 .batch = batch,
                 .stride_a = one_a ? 0 : m * k,
                 .stride_b = k * n,
                 .stride_c = m * n};
  dispatch(c.device(), [&](auto device) { gemm(device, how, a, b, c); });
}

// Without the last two dimensions, and with two behind them.
Shape leading(const Tensor& t) { return t.shape().without(-1).without(-1); }
Shape matrices(Shape leading, int64_t m, int64_t n) {
  leading.push_back(m), leading.push_back(n);
  return leading;
}

void check_weight(const Tensor& x, const Tensor& weight, const Tensor& scale) {
  check(bool(weight), "linear: weight is missing");
  if (weight.dtype() != DType::bf16 && weight.dtype() != DType::i8) {
    check_activation("linear", "x", x);
    return check_beside("linear", "weight", weight, "x", x);
  }
  check(bool(x) && x.dtype() == DType::f32 && !Tape::current(), "linear: weight is ", weight.dtype(),
        ", which asks for an x of f32 and no tape: it is for inference only");
  const Shape rows = {weight.dim(0)};
  check(weight.dtype() == DType::bf16 ? !scale : scale && scale.shape() == rows && scale.dtype() == DType::f32,
        "linear: weight is ", weight.dtype(), " ", weight.shape(), " and its scale has shape ",
        scale ? scale.shape() : Shape{}, ", but i8 asks for f32 ", rows, " and bf16 for none");
}

Tensor widened(const Tensor& weight, const Tensor& scale, DType dtype) {
  const Tensor w = to(detach(weight), dtype);
  return scale ? w * reshape(scale, {scale.dim(0), 1}) : w;
}

void check_residual(const char* op, const Tensor& residual, const Tensor& x, const Tensor& y) {
  if (!residual) return;
  check(residual.shape() == y.shape(), op, ": residual has shape ", residual.shape(), ", but the result has ",
        y.shape());
  check_beside(op, "residual", residual, "x", x);
}

// y = x w^T + base, where base may be empty, or y itself.
void multiply_rows(const Tensor& x, const Tensor& w, const Tensor& base, const Tensor& y) {
  const int64_t in = w.dim(1), out = w.dim(0);
  const Gemm how = {.m = x.shape().without(-1).numel(),
                    .n = out,
                    .k = in,
                    .transpose_b = true,
                    .accumulate = base && base.bytes() == y.bytes(),
                    .lda = in,
                    .ldb = in,
                    .ldc = out};
  dispatch(x.device(), [&](auto device) {
    if (base && !how.accumulate) return gemm_onto(device, how, x, w, base, y);
    gemm(device, how, x, w, y);
  });
}

// dW = d^T x, where d has `out` columns. That of a padded weight is made with its zeros, since rows and columns of odd
// widths are slow to multiply into, and goes without them to where it belongs.
void weight_gradient(const Tensor& d, const Tensor& x, int64_t out, const Padding& padding, const Into& dweight) {
  const Tensor& to = dweight.tensor;
  const int64_t in = x.dim(-1), rows = out ? d.numel() / out : 0, width = to.dim(1);
  const bool padded = out != to.dim(0) || in != width;
  const Tensor made = padded ? Tensor({out, in}, to.dtype(), to.device()) : to;
  dispatch(to.device(), [&](auto device) {
    gemm(device,
         {.m = out,
          .n = in,
          .k = rows,
          .transpose_a = true,
          .accumulate = dweight.adds && !padded,
          .lda = out,
          .ldb = in,
          .ldc = in},
         d, x, made);
    if (!padded) return;
    const auto put = [&](Rows from, Rows where, int64_t n, int64_t size) {
      if (dweight.adds) return add_rows(device, made, from, to, where, n, size);
      copy_rows(device, made, from, to, where, n, size);
    };
    const int64_t group = to.dim(0) / padding.groups, tall = out / padding.groups;
    if (in == width) return put({0, tall * in}, {0, group * in}, padding.groups, group * in);
    for (int64_t g = 0; g < padding.groups; ++g) put({g * tall * in, in}, {g * group * width, width}, group, width);
  });
}

// Records y = x W'^T + bias + residual; w is what was multiplied with. Gradients that are there already are added to.
Tensor record_linear(const Tensor& x, const Tensor& weight, const Tensor& w, const Padding& padding, const Tensor& bias,
                     const Tensor& residual, const Tensor& y) {
  const auto rule = [=, has_bias = bool(bias), has_residual = bool(residual)](const Tensor& dy,
                                                                              SoFar& so_far) -> Grads {
    const int64_t out = w.dim(0), in = w.dim(1), rows = out ? dy.numel() / out : 0;
    const Tensor d = to(dy, x.dtype());
    const Into dx = so_far.into(0, x), dweight = so_far.into(1, weight);
    dispatch(x.device(), [&](auto device) {
      gemm(device, {.m = rows, .n = in, .k = out, .accumulate = dx.adds, .lda = out, .ldb = in, .ldc = in}, d, w,
           dx.tensor);
    });
    weight_gradient(d, x, out, padding, dweight);
    return {dx.tensor, dweight.tensor, has_bias ? sum_to(dy, {weight.dim(0)}) : Tensor(), has_residual ? dy : Tensor()};
  };
  return record("linear", {x, weight, bias, residual}, y, rule);
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_alike("matmul", "a", a, "b", b);
  check_activation("matmul", "a", a);
  check(a.rank() >= 2 && b.rank() >= 2, "matmul: a has shape ", a.shape(), " and b has shape ", b.shape(),
        ", but both need two dimensions or more");
  const int64_t rows = a.dim(-2), k = a.dim(-1), n = b.dim(-1);
  check(b.dim(-2) == k, "matmul: b has shape ", b.shape(), ", but a of shape ", a.shape(), " asks for ",
        b.shape().with(-2, k));
  const bool one_a = a.rank() == 2 && b.rank() > 2, one_b = b.rank() == 2 && a.rank() > 2;
  const Shape of_a = leading(a), of_b = leading(b), all = broadcast_shape(of_a, of_b);
  if (!one_a && !one_b && of_a != of_b) {
    check(broadcasts(of_a, all) && broadcasts(of_b, all), "matmul: a has shape ", a.shape(), ", but b has shape ",
          b.shape(), ", whose leading dimensions do not broadcast");
    const auto repeated = [](const Tensor& t, const Shape& shape) {
      return t.shape() == shape ? t : broadcast_to(t, shape);
    };
    return matmul(repeated(a, matrices(all, rows, k)), repeated(b, matrices(all, k, n)));
  }
  // One b for all is one product, of all rows of a.
  const int64_t batch = one_b ? 1 : all.numel(), m = one_b ? all.numel() * rows : rows;
  const Tensor y(matrices(all, rows, n), a.dtype(), a.device());
  products(batch, m, n, k, a, false, b, false, y, one_a);
  return record("matmul", {a, b}, y, [=](const Tensor& dy) -> Grads {
    const Tensor da({batch, m, k}, a.dtype(), a.device()), db = empty_like(b);
    products(batch, m, k, n, dy, false, b, true, da);
    products(batch, k, n, m, a, true, dy, false, db, one_a);
    return {one_a ? summed_to(da, a.shape()) : da.view(a.shape()), db};
  });
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual,
              const Tensor& weight_scale) {
  check_weight(x, weight, weight_scale);
  check(x.rank() >= 1 && weight.rank() == 2 && weight.dim(1) == x.dim(-1), "linear: weight has shape ", weight.shape(),
        ", but x of shape ", x.shape(), " asks for [out, ", x.rank() ? x.dim(-1) : 0, "]");
  const int64_t out = weight.dim(0), rows = x.shape().without(-1).numel();
  const bool accumulate = bias || residual, narrow = x.dtype() == DType::bf16;
  Tensor y(x.shape().with(-1, out), accumulate ? dtype_beside(x.dtype()) : x.dtype(), x.device());
  check(!bias || bias.shape() == Shape{out}, "linear: bias has shape ", bias ? bias.shape() : Shape{},
        ", but weight of shape ", weight.shape(), " asks for ", Shape{out});
  check_residual("linear", residual, x, y);
  if (bias) check_beside("linear", "bias", bias, "x", x);

  const auto begin_with_bias = [&](auto device) {
    if (residual) binary(device, Binary::add, residual, bias, y);
    if (!residual) copy_strided(device, bias, Shape{0, 1}, y.view({rows, out}));
  };
  if (rows <= kFewRows && !narrow) {
    dispatch(x.device(), [&](auto device) {
      if (bias) begin_with_bias(device);
      if (residual && !bias) copy(device, residual, y);
      gemv(device, x, weight, weight_scale, accumulate, y);
    });
    return record_linear(x, weight, weight, {}, bias, residual, y);
  }
  const bool widen = weight.dtype() != dtype_beside(x.dtype());
  const Tensor w = widen ? widened(weight, weight_scale, x.dtype()) : weight_for_product(x, weight, {});
  if (bias) dispatch(x.device(), begin_with_bias);
  multiply_rows(x, w, bias ? y : residual, y);
  return record_linear(x, weight, w, {}, bias, residual, y);
}

Tensor padded_linear(const Tensor& x, const Tensor& weight, const Padding& padding, const Tensor& residual) {
  check(bool(weight), "padded_linear: weight is missing");
  check_activation("padded_linear", "x", x);
  check_beside("padded_linear", "weight", weight, "x", x);
  const int64_t groups = padding.groups;
  check(weight.rank() == 2 && groups > 0 && weight.dim(0) % groups == 0 && padding.rows >= 0 && padding.columns >= 0,
        "padded_linear: weight has shape ", weight.shape(), ", which cannot be cut into ", groups,
        " equal groups of rows and padded by ", padding.rows, " rows a group and ", padding.columns, " columns");
  check(x.rank() >= 1 && x.dim(-1) == weight.dim(1) + padding.columns, "padded_linear: x has shape ", x.shape(),
        ", but weight of shape ", weight.shape(), " and ", padding.columns, " more columns ask for rows of width ",
        weight.dim(1) + padding.columns);
  const int64_t out = weight.dim(0) + groups * padding.rows;
  Tensor y(x.shape().with(-1, out), residual ? dtype_beside(x.dtype()) : x.dtype(), x.device());
  check_residual("padded_linear", residual, x, y);
  const Tensor w = weight_for_product(x, weight, padding);
  multiply_rows(x, w, residual, y);
  return record_linear(x, weight, w, padding, {}, residual, y);
}

}  // namespace rondo
