// What kernels are called with; then the list of all kernels (tensor/kernel_list.h), read once for each device tag. So
// every kernel is declared in one place for all backends, and one that a backend lacks is a link error.
#pragma once
#include <cstdint>
#include <span>

#include "tensor/functors.h"
#include "tensor/key_value_cache.h"
#include "tensor/tensor.h"

namespace rondo {

// The view of a buffer that narrow and concat copy: n_rows pieces of `width` elements, `stride` elements apart.
struct Rows {
  int64_t offset, stride;
};

// A tensor seen as [outer, n, inner]: lines of n elements, `inner` apart, counted as [outer, inner].
struct Lines {
  int64_t outer, n, inner;
  static Lines along(const Shape& shape, int axis) {
    Lines lines{1, shape[axis], 1};
    for (int i = 0; i < axis; ++i) lines.outer *= shape[i];
    for (int i = axis + 1; i < shape.rank(); ++i) lines.inner *= shape[i];
    return lines;
  }
  RONDO_ANYWHERE int64_t count() const { return outer * inner; }
  RONDO_ANYWHERE int64_t first(int64_t line) const { return line / inner * n * inner + line % inner; }
};

// A copy of a weight [groups * n, k] as it is multiplied with: [groups * tall, wide], with zeros behind each row and
// behind the rows of each group.
struct WeightCopy {
  Tensor weight, copy;
  int64_t groups;
};

// For each of `batch` matrices: C = op(A) op(B) + (accumulate ? C : 0), row-major, op = transpose or not; op(A) [m, k],
// op(B) [k, n]. `ld` are the widths of the rows in memory, `stride` the distance between matrices (0: shared).
struct Gemm {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  int64_t lda, ldb, ldc;
  int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
};

// Windows of height x width over planes of in_height x in_width: the first begins `padding` before the plane's corner,
// the others `stride` on, out_height x out_width of them.
struct Windows {
  int64_t planes, in_height, in_width, height, width, stride, padding, out_height, out_width;
};

// Rotates rows of x [rows, H*D] into y; row r has position first + (r % n) % window, n being the rows of a sequence;
// table as rotary_table's [which]. `inverse` applies the transposed rotation, which is the backward pass.
struct Rotation {
  int which;  // 0 queries, 1 keys
  int64_t first, window, n;
  bool inverse = false;
};

// Both attentions of autograd/ops.h. Queries are cut into blocks of `width`. With a window, block b has the keys of
// block b-1 (or memory) at positions 0..W-1 and its own at W..2W-1; without one, the keys of group b. A single block
// may be narrower than W, which the table tells, but not than what there is.
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
// What the forward pass makes: y [B, n, H*D] and lse [B, n, H], which are allocated before it; and, for the backward
// pass alone, what it multiplied, if the backend likes to keep it.
struct AttentionForward {
  Tensor y, lse;
  Tensor queries = {}, keys = {}, values = {};
};
struct AttentionGradients {
  // All of them empty where the input is.
  const Tensor &dq, &dkv, &dmemory;
  const Into &dq_scale, &dk_scale;
};

// y [m, n] = x [m, k] W^T (+ residual), for a few rows x. W [n, k] is of x's dtype, or bf16 or i8 with x f32; `scale`
// [n] multiplies its rows. Scale and residual may be empty; the residual may be y.
struct Product {
  Tensor weight, scale, residual, y;
};
// One attention of queries q [n, H*D], of which each sees something of a cache: softmax(factor q' K^T) V, where q' is
// q / |q| * q_scale, rotated by the table's row of its place. Scale and table may be empty.
struct Attended {
  const Tensor &q, &q_scale, &table;
  double factor;
  const KeyValueCache& cache;
};
// What tokens bring of their own, which cache_keys stores (tensor/kernel_list.h). Without kv they bring nothing.
struct Brought {
  Tensor kv = {}, k_scale = {}, raw = {};
};

struct AdamSlot {
  Tensor weight, grad, m, v;
  int64_t index;        // its place in `steps`
  double weight_decay;  // decoupled (AdamW)
};
struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};
struct SGDSlot {
  Tensor weight, grad, v;  // v may be empty, where there is no momentum
};
struct SGDOptions {
  double momentum = 0, weight_decay = 0;
  bool nesterov = false;
};

#define Backend Cpu
#include "tensor/kernel_list.h"
#undef Backend

#define Backend Cuda
#include "tensor/kernel_list.h"
#undef Backend

}  // namespace rondo
