// The contract of a backend, on one page: every kernel, one overload per device tag. A kernel missing from a backend is
// a link error. Arguments were checked by the op; outputs are allocated, of the right shape and dtype, and hold garbage
// unless it says "adds". Float tensors are all f32 or all f64 within one call.
//
// Rules for a kernel: sums over fixed chunks (the same bits for any number of threads), rows centred before squares,
// the maximum before exponentials, no atomics on floats, empty tensors allowed.
#pragma once
#include <cstdint>
#include <span>

#include "tensor/functors.h"
#include "tensor/key_value_cache.h"
#include "tensor/tensor.h"

namespace rondo {

// ---- memory (tensor/cpu/memory.cpp) ----
void fill(Cpu, double value, const Tensor& y);
void copy(Cpu, const Tensor& x, const Tensor& y);      // same number of elements, any dtypes
void add_into(Cpu, const Tensor& x, const Tensor& y);  // y += x
void scale_into(Cpu, double factor, const Tensor& y);  // y *= factor
int64_t first_non_finite(Cpu, const Tensor& x);        // index of the first NaN or infinity, or -1
// The view of a buffer that narrow and concat copy: n_rows pieces of `width` elements, `stride` elements apart.
struct Rows {
  int64_t offset, stride;
};
void copy_rows(Cpu, const Tensor& x, Rows from, const Tensor& y, Rows to, int64_t n_rows, int64_t width);
// (tensor/cpu/strided.cpp) y[i0, i1, ...] = x[i0 * strides[0] + i1 * strides[1] + ...], for all indices of y. strides
// has y's rank.
void copy_strided(Cpu, const Tensor& x, const Shape& strides, const Tensor& y);

// ---- elementwise (tensor/cpu/elementwise.cpp) ----
void unary(Cpu, const Unary& f, const Tensor& x, const Tensor& y);
void unary_backward(Cpu, const Unary& f, const Tensor& dy, const Tensor& x, const Tensor& y, const Tensor& dx);
void binary(Cpu, Binary f, const Tensor& a, const Tensor& b, const Tensor& y);  // a and b broadcast to y
// ---- gates (tensor/cpu/gates.cpp) ----
// x [rows, 2F] = (a, gate), y [rows, F] = gelu(gate) * a
void geglu_forward(Cpu, const Tensor& x, const Tensor& y);
void geglu_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& dx);
// y = g z + (1 - g) c, g = sigmoid(beta); c, z [rows, d], beta [d]
void state_gate_forward(Cpu, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& y);
void state_gate_backward(Cpu, const Tensor& dy, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& dc,
                         const Tensor& dz, const Tensor& dbeta);

// ---- reductions (tensor/cpu/reduce.cpp) ----
void sum_to(Cpu, const Tensor& x, const Tensor& y);  // y's shape broadcasts to x's

// ---- products (tensor/cpu/gemm.cpp) ----
// For each of `batch` matrices: C = op(A) op(B) + (accumulate ? C : 0), row-major, op = transpose or not; op(A) [m, k],
// op(B) [k, n]. `ld` are the widths of the rows in memory, `stride` the distance between matrices (0: shared).
struct Gemm {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  int64_t lda, ldb, ldc;
  int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
};
void gemm(Cpu, const Gemm& how, const Tensor& a, const Tensor& b, const Tensor& c);

// (tensor/cpu/gemv.cpp) y [m, n] = x [m, k] W^T (+ y), for a few rows x: W [n, k] is read once, where it lies. W is of
// x's dtype, or bf16 or i8 with x f32; `scale` [n] multiplies its rows, or is empty. A row's bits depend on no other
// row.
void gemv(Cpu, const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y);

// ---- norms (tensor/cpu/norm.cpp); rows of width n, mean and rstd one number a row ----
void layer_norm_forward(Cpu, const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& mean,
                        const Tensor& rstd);
void layer_norm_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& mean,
                         const Tensor& rstd, const Tensor& dx, const Tensor& dgamma);
void rms_norm_forward(Cpu, const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& rstd);
void rms_norm_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& rstd,
                       const Tensor& dx, const Tensor& dgamma);
void l2_normalize_forward(Cpu, const Tensor& x, const Tensor& scale, const Tensor& y);
void l2_normalize_backward(Cpu, const Tensor& dy, const Tensor& x, const Tensor& scale, const Tensor& dx,
                           const Tensor& dscale);

// ---- softmax and loss (tensor/cpu/softmax.cpp, tensor/cpu/loss.cpp) ----
void softmax_forward(Cpu, const Tensor& x, const Tensor& y);
void softmax_backward(Cpu, const Tensor& dy, const Tensor& y, const Tensor& dx);
void log_softmax_forward(Cpu, const Tensor& x, const Tensor& y);
void log_softmax_backward(Cpu, const Tensor& dy, const Tensor& y, const Tensor& dx);
// lse: log of the sum of exponentials, one a row; loss (); count (): the number of labels that are not ignored
void cross_entropy_forward(Cpu, const Tensor& logits, const Tensor& labels, int64_t ignore_index, const Tensor& loss,
                           const Tensor& lse, const Tensor& count);
// dloss () is the gradient of the loss
void cross_entropy_backward(Cpu, const Tensor& dloss, const Tensor& logits, const Tensor& labels, int64_t ignore_index,
                            const Tensor& lse, const Tensor& count, const Tensor& dlogits);

// ---- embedding (tensor/cpu/embedding.cpp) ----
void embedding_forward(Cpu, const Tensor& weight, const Tensor& tokens, const Tensor& y);
void embedding_backward(Cpu, const Tensor& dy, const Tensor& tokens, const Tensor& dweight);
// The first token outside 0..n_rows-1, as an index into tokens, or -1.
int64_t first_token_outside(Cpu, const Tensor& tokens, int64_t n_rows, int64_t also_allowed);

// ---- attention (tensor/cpu/rotary.cpp, tensor/cpu/attention.cpp) ----
// Rotates rows of x [rows, H*D] in place of y; row r has position first + (r % n) % window; table as rotary_table's
// [which]. `inverse` applies the transposed rotation, which is the backward pass.
struct Rotation {
  int which;  // 0 queries, 1 keys
  int64_t first, window, n;
  bool inverse = false;
};
void rotary(Cpu, const Rotation& how, const Tensor& x, const Tensor& table, const Tensor& y);

// Both attentions of autograd/ops.h. Queries are cut into blocks of `width`. With a window, block b has the keys of
// block b-1 (or memory) at positions 0..W-1 and its own at W..2W-1; without one, the keys of group b.
struct AttentionShape {
  int64_t batch, n, heads, head_width;
  int64_t width;       // queries per block; W for the window
  int64_t memory = 0;  // keys in front (window only)
  int64_t keys = 0;    // S (groups only)
  bool window = false;
  double factor = 1;
};
struct AttentionInputs {
  const Tensor &q, &kv, &memory, &q_scale, &k_scale, &table;  // memory, scales and table may be empty
};
struct AttentionGradients {
  const Tensor &dq, &dkv, &dmemory, &dq_scale, &dk_scale;  // empty where the input is
};
// y [B, n, H*D]; lse [B, n, H], for the backward pass
void attention_forward(Cpu, const AttentionShape& how, const AttentionInputs& in, const Tensor& y, const Tensor& lse);
void attention_backward(Cpu, const AttentionShape& how, const AttentionInputs& in, const Tensor& dy, const Tensor& y,
                        const Tensor& lse, const AttentionGradients& out);

// ---- decoding (tensor/cpu/decode.cpp) ----
// An empty cache with room for `rows` keys of each sequence.
KeyValueCache key_value_cache(Cpu, int64_t batch, int64_t rows, int64_t head_width, DType dtype);
// Where a token is: a query sees the rows first..last-1 of its sequence's cache, and its own key is the last of them.
struct CachePlace {
  int64_t sequence, first, last;
};
// Puts kv [n, 2D], one pair a place, at the rows last-1: keys k / |k| * scale, then rotated by the table's row of their
// place. Scale and table may be empty. D is even where there is a table.
void cache_keys(Cpu, std::span<const CachePlace> places, const Tensor& kv, const Tensor& k_scale, const Tensor& table,
                const KeyValueCache& cache);
// Per place and head softmax(factor q' K^T) V over the rows first..last-1, q' = q / |q| * q_scale, rotated by the
// table's row of the place last-1 (as autograd/ops.h has it for attention). q [n, H*D], one a place -> the columns
// column..column+H*D-1 of y [n, ...]. A row's bits depend on no other row.
void attention_decode(Cpu, std::span<const CachePlace> places, int64_t heads, double factor, const Tensor& q,
                      const Tensor& q_scale, const Tensor& table, const KeyValueCache& cache, const Tensor& y,
                      int64_t column);

// ---- optimizer (tensor/cpu/optimizer.cpp) ----
// norm () = the length of all gradients as one vector; factor () = min(1, max_norm / (norm + 1e-6)).
// A norm that is not finite makes the factor NaN. norm and factor have the gradients' dtype.
void clip_factor(Cpu, std::span<const Tensor> grads, double max_norm, const Tensor& norm, const Tensor& factor);
struct AdamSlot {
  Tensor weight, grad, m, v;
  int64_t index;        // its place in `steps`
  double weight_decay;  // decoupled (AdamW)
};
struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};
// Counts steps[index] (i64) up by one, then (Kingma & Ba 2015; Loshchilov & Hutter 2019), with g = factor * grad:
// w -= lr * decay * w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w -= lr * m' / (sqrt(v') + eps),
// where m' = m / (1 - b1^step) and v' = v / (1 - b2^step). learning_rate, factor: () of the weights' dtype.
// With a factor of NaN nothing is changed.
void adam_step(Cpu, std::span<const AdamSlot> slots, const AdamOptions& how, const Tensor& learning_rate,
               const Tensor& factor, const Tensor& steps);

}  // namespace rondo
