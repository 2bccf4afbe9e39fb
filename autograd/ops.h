// Every op, on one page. An op checks its arguments, runs a forward kernel and records its backward rule.
//
// Shapes are written [rows, columns]; "..." stands for any leading dimensions. Ops compute in f32 or f64, and all float
// arguments of one op must have the same dtype and device. Tokens, labels and what else is an index may also
// be on the CPU: there they are looked at, and copied to where the op computes. On a GPU nobody looks, which would make
// the GPU wait; one that is outside makes its row NaN, and the loss. A bad argument throws rondo::Error with both sides
// of the mismatch. Fused ops (attention, geglu, cross_entropy, state_gate) have a composed twin in their test.
//
// Mixed precision: activations may be bf16 between a norm and the next residual (layer_norm makes them; linear, matmul,
// geglu and the attentions go on with them; ops that only move elements take any dtype). Their products are of bf16
// numbers, with sums in f32; parameters, scales and tables beside them are f32. A gradient has its input's dtype.
#pragma once
#include <initializer_list>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../tensor/tensors.h"
#include "tape.h"

namespace rondo {

// Where an op takes a number in place of a tensor: it is rounded to what the other tensor's dtype has. Not {}, which is
// an empty Tensor.
struct Number {
  double value;
  template <class T>
  requires std::is_arithmetic_v<T> Number(T v) : value(double(v)) {}
};

// ---- elementwise (autograd/elementwise.cpp) ------------------------------------------------------------------------
// Shapes broadcast as in NumPy: aligned at the right, a dimension of 1 is repeated. The gradient of a repeated input is
// summed over the repetitions (sum_to).
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
// The gradient goes to the one that was taken; where both are equal, each has half of it. Where one is NaN, the result
// is, and both have the gradient.
Tensor maximum(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);
Tensor maximum(const Tensor& a, Number b);
Tensor minimum(const Tensor& a, Number b);
Tensor scale(const Tensor& x, double factor);  // factor * x
Tensor cast(const Tensor& x, DType dtype);     // the same numbers as f32, f64 or bf16; the gradient is cast back
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);   // 1 / (1 + exp(-x))
Tensor relu(const Tensor& x);      // max(x, 0); slope 0 at 0
Tensor gelu(const Tensor& x);      // x * Phi(x), the exact form (Hendrycks & Gimpel 2016)
Tensor silu(const Tensor& x);      // x * sigmoid(x) (Elfwing et al. 2018)
Tensor softplus(const Tensor& x);  // log(1 + exp(x)), as exact where that is tiny or exp(x) overflows
Tensor sqrt(const Tensor& x);
Tensor abs(const Tensor& x);  // slope 0 at 0
// min(max(x, low), high), with slope 1 from low to high, both included. Throws where low is above high.
Tensor clamp(const Tensor& x, double low, double high);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator*(double factor, const Tensor& x) { return scale(x, factor); }
inline Tensor operator*(const Tensor& x, double factor) { return scale(x, factor); }
inline Tensor operator/(const Tensor& x, double divisor) { return scale(x, 1 / divisor); }
inline Tensor operator-(const Tensor& x) { return scale(x, -1); }
inline Tensor operator/(double a, const Tensor& x) { return div(full({}, a, x.dtype(), x.device()), x); }
inline Tensor operator+(const Tensor& x, double a) { return x + full({}, a, x.dtype(), x.device()); }
inline Tensor operator+(double a, const Tensor& x) { return x + a; }
inline Tensor operator-(const Tensor& x, double a) { return x + -a; }
inline Tensor operator-(double a, const Tensor& x) { return -x + a; }

// [..., 2F] -> [..., F]: split the last dimension into (a, gate); gelu(gate) * a (Shazeer 2020, "GLU variants").
Tensor geglu(const Tensor& x);

// ---- reductions (autograd/reduce.cpp) ------------------------------------------------------------------------------
Tensor sum(const Tensor& x);            // of all elements, shape ()
Tensor sum(const Tensor& x, int axis);  // over one axis, which disappears
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, int axis);
// Sums x over the dimensions that broadcasting `shape` to x.shape() repeats: the adjoint of broadcast_to.
Tensor sum_to(const Tensor& x, const Shape& shape);

// ---- choosing (autograd/select.cpp) --------------------------------------------------------------------------------
// Masks: u8, 1 where it holds and 0 where not, of two tensors on one device, of one dtype, any, which broadcast; or of
// a tensor and a number, integers then as f64. NaN equals nothing. Masks have no gradient; to(mask, DType::f32) makes
// numbers of them, whose mean is a share. `if (mask)` asks whether there is a tensor, mask.item() for what is in it.
Tensor equal(const Tensor& a, const Tensor& b);
Tensor equal(const Tensor& a, Number b);
Tensor not_equal(const Tensor& a, const Tensor& b);
Tensor not_equal(const Tensor& a, Number b);
Tensor less(const Tensor& a, const Tensor& b);
Tensor less(const Tensor& a, Number b);
Tensor less_equal(const Tensor& a, const Tensor& b);
Tensor less_equal(const Tensor& a, Number b);
Tensor greater(const Tensor& a, const Tensor& b);
Tensor greater(const Tensor& a, Number b);
Tensor greater_equal(const Tensor& a, const Tensor& b);
Tensor greater_equal(const Tensor& a, Number b);
// a where mask is not 0, else b; all three broadcast, any dtype. What is not chosen has the gradient 0, which what it
// was made of may still multiply by an infinite slope: choose what goes into a sqrt or log rather than what comes out.
// Of masks: where(m, n, m) is both, where(m, m, n) either.
Tensor where(const Tensor& mask, const Tensor& a, const Tensor& b);
Tensor where(const Tensor& mask, const Tensor& a, Number b);
Tensor where(const Tensor& mask, Number a, const Tensor& b);

// Of each line along an axis, which disappears: the index (i64) of the largest element, of the first where several are
// equal; NaN counts as larger than all. It has no gradient.
Tensor argmax(const Tensor& x, int axis = -1);
// Of each line, the element that index (i64) names; index has the shape of x without the axis.
Tensor pick(const Tensor& x, const Tensor& index, int axis = -1);
Tensor max(const Tensor& x, int axis);  // the gradient goes to the element at argmax
Tensor min(const Tensor& x, int axis);  // -max(-x)

// ---- shape (autograd/shape.cpp) ------------------------------------------------------------------------------------
// The same elements in the same order; shares the buffer. Written as a list, one dimension may be -1: what is left.
Tensor reshape(const Tensor& x, const Shape& shape);
Tensor reshape(const Tensor& x, std::initializer_list<int64_t> shape);
Tensor permute(const Tensor& x, const std::vector<int>& axes);            // dimension i of the result is axes[i] of x
Tensor transpose(const Tensor& x, int a = -2, int b = -1);                // with two dimensions changed
Tensor narrow(const Tensor& x, int axis, int64_t start, int64_t length);  // elements start..start+length-1 of an axis
Tensor concat(std::span<const Tensor> parts, int axis);                   // one after the other along an axis
inline Tensor concat(std::initializer_list<Tensor> parts, int axis) {
  return concat(std::span(parts.begin(), parts.size()), axis);
}
// Along a new axis of the result, which takes the place `axis`; all parts have one shape.
Tensor stack(std::span<const Tensor> parts, int axis);
inline Tensor stack(std::initializer_list<Tensor> parts, int axis) {
  return stack(std::span(parts.begin(), parts.size()), axis);
}
// The n equal parts of an axis.
Tensors split(const Tensor& x, int64_t n, int axis);
Tensor broadcast_to(const Tensor& x, const Shape& shape);

// ---- products (autograd/linear.cpp) --------------------------------------------------------------------------------
// [..., m, k] x [..., k, n] -> [..., m, n]; the leading dimensions broadcast. (A matrix without any is read where it
// is; another one that is repeated is copied.)
Tensor matmul(const Tensor& a, const Tensor& b);
// x W^T + bias + residual: x [..., in], weight [out, in], bias [out] or {}, residual [..., out] or {}. Of a bf16 x the
// result is bf16, or f32 where a bias or residual is added; the weight is f32, rounded as it is read. For inference
// only, the weights of an f32 x may be bf16, or i8 with a scale [out] for each row.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Tensor& residual = {},
              const Tensor& weight_scale = {});
// Zeros that a weight is multiplied with as if it had them: `columns` behind each row, and `rows` behind each of
// `groups` equal groups of rows.
struct Padding {
  int64_t rows = 0, groups = 1, columns = 0;
};
// x W'^T + residual with the weight W' so padded: x [..., in + columns], the result [..., out + groups * rows].
Tensor padded_linear(const Tensor& x, const Tensor& weight, const Padding& padding, const Tensor& residual = {});
// Up to so many rows the weights are read where they lie, and a row's bits do not depend on the other rows. For more it
// pays to rearrange the weights.
inline constexpr int64_t kFewRows = 32;

// ---- norms (autograd/norm.cpp) -------------------------------------------------------------------------------------
// Each row x of width n: (x - mean) / sqrt(var + eps) * gamma, var biased (Ba et al. 2016). gamma [n]. The result has
// x's dtype, or is rounded to bf16 where that is asked for.
Tensor layer_norm(const Tensor& x, const Tensor& gamma, double eps = 1e-5, std::optional<DType> result = {});
// Each row: x / sqrt(mean(x^2) + eps) * gamma (Zhang & Sennrich 2019). gamma [n].
Tensor rms_norm(const Tensor& x, const Tensor& gamma, double eps = 1e-6);
// Each group of D columns (a head): x / max(|x|_2, 1e-12) * scale. x [..., H*D], scale [D].
Tensor l2_normalize(const Tensor& x, const Tensor& scale);

// ---- softmax and loss (autograd/softmax.cpp, autograd/loss.cpp) ----------------------------------------------------
Tensor softmax(const Tensor& x);      // over the last dimension
Tensor log_softmax(const Tensor& x);  // over the last dimension
// Mean of -log softmax(logits)[label] over the labels that are not ignore_index. logits [..., V], labels [...] i64.
// With nothing but ignored labels the loss is NaN, as in PyTorch, and the gradients are zero.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels, int64_t ignore_index = -100);

// ---- embedding (autograd/embedding.cpp) ----------------------------------------------------------------------------
// Rows of weight [V, d] for tokens [...] i64 -> [..., d].
Tensor embedding(const Tensor& weight, const Tensor& tokens);
// The first of some tokens on the CPU that is none of 0..n-1, nor `also_allowed`, as an index; -1: there is none.
int64_t first_token_outside(const Tensor& tokens, int64_t n, int64_t also_allowed);

// ---- attention (autograd/rotary.cpp, autograd/attention.cpp) -------------------------------------------------------
// The table of rotary position embedding with xPos scaling (Su et al. 2021; Sun et al. 2022) for positions 0..2W-1:
// [2, 2W, D], for queries (0) and keys (1), each row holding scale*cos (D/2) and scale*sin (D/2).
Tensor rotary_table(int64_t window, int64_t head_width, DType dtype = DType::f32, Device device = Device::cpu);
enum class Rotate { query, key };
// Rotates each head of x [B, n, H*D]. Row i has position first + i % window; the table is a constant.
Tensor rotary(const Tensor& x, const Tensor& table, Rotate which, int64_t first, int64_t window);

// What the queries and keys of an attention go through before their product. Each tensor may be empty: the step is
// skipped.
struct QueryKey {
  Tensor q_scale, k_scale;  // [D]: l2_normalize (both or none)
  Tensor table;             // rotary_table (window attention only)
  double factor = 0;        // multiplies the products; 0 means 1/sqrt(D)
};
// Multi-query attention with one key/value head and a window of W keys: query i of q [B, n, H*D] sees the keys j of
// memory ++ own with 0 <= i - j < W. kv [B, n, 2D] holds (key, value), memory [B, m, 2D] (m <= W, or {}) what came just
// before. Positions are local to a block of W: memory W-m..W-1, block W..2W-1.
Tensor window_attention(const Tensor& q, const Tensor& kv, const Tensor& memory, int64_t window,
                        const QueryKey& how = {});
// Unmasked multi-query attention in groups: query i of q [B, n, H*D] sees all keys of group i / width of
// kv [B, G, S, 2D], where width >= 1 and G = ceil(n / width).
Tensor group_attention(const Tensor& q, const Tensor& kv, int64_t width, const QueryKey& how = {});

// ---- images (autograd/unfold.cpp) ----------------------------------------------------------------------------------
// A window that goes over an image with `padding` zeros around it, `stride` at a time.
struct Window {
  int64_t height, width, stride = 1, padding = 0;
};
// What each window sees: images x [B, C, H, W] -> [B, C, height, width, H', W'], where H' = (H + 2 padding - height) /
// stride + 1, rounded down, W' likewise. A convolution is a product with it (nn/conv.h), pooling a mean or maximum.
Tensor unfold(const Tensor& x, const Window& window);

// ---- recurrence (autograd/state_gate.cpp) --------------------------------------------------------------------------
// The fixed gate of the block-recurrent transformer (Hutchins et al. 2022, section 3.3): sigmoid(beta) * z + (1 -
// sigmoid(beta)) * c. c, z [..., d], beta [d].
Tensor state_gate(const Tensor& c, const Tensor& z, const Tensor& beta);

}  // namespace rondo
