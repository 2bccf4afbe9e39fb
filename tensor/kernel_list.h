// The contract of a backend, on one page: every kernel. `Backend` stands for a device's tag; tensor/kernels.h, which
// everybody includes, reads this list once for each. (In brackets: the base name of the file in tensor/cpu and cuda.)
// Arguments were checked by the op; outputs are allocated, of the right shape and dtype, and hold garbage unless it
// says "adds", or an Into does. Float tensors are all f32 or all f64 within one call, or, where it says "activations",
// these are bf16 and the others f32. Tokens and labels were checked where they are on the CPU; a GPU's kernel makes the
// row of one that is outside NaN.
//
// Rules for a kernel: sums over fixed chunks (the same bits for any number of threads), rows centred before squares,
// the maximum before exponentials, no atomics on floats, empty tensors allowed.

// ---- memory (memory) ----
// Raw memory, aligned to 64 bytes or more, uninitialised; null where there is none left. What tensors get comes out of
// a cache before it (tensor/allocator.h).
void* request_memory(Backend, size_t bytes);
void return_memory(Backend, void* memory);
size_t free_memory(Backend);  // bytes that are left, as far as the device can tell
void fill_bytes(Backend, int byte, void* memory, size_t bytes);
// Between the device's memory and the host's. Both return when `from` may be written to, the first when the copy is
// made.
void copy_to_host(Backend, const void* from, void* to, size_t bytes);
void copy_from_host(Backend, const void* from, void* to, size_t bytes);

void fill(Backend, double value, const Tensor& y);
void copy(Backend, const Tensor& x, const Tensor& y);      // same number of elements, any dtypes
void add_into(Backend, const Tensor& x, const Tensor& y);  // y += x, activations
void scale_into(Backend, double factor, const Tensor& y);  // y *= factor
int64_t first_non_finite(Backend, const Tensor& x);        // index of the first NaN or infinity, or -1
void copy_rows(Backend, const Tensor& x, Rows from, const Tensor& y, Rows to, int64_t n_rows, int64_t width);
void add_rows(Backend, const Tensor& x, Rows from, const Tensor& y, Rows to, int64_t n_rows, int64_t width);  // y += x
// (strided) y[i0, i1, ...] = x[i0 * strides[0] + i1 * strides[1] + ...], for all indices of y. strides has y's rank.
void copy_strided(Backend, const Tensor& x, const Shape& strides, const Tensor& y);

// (rounded) All weights of one dtype, and all copies; these may be bf16.
void copy_weights(Backend, std::span<const WeightCopy> copies);

// ---- elementwise (elementwise) ----
void unary(Backend, const Unary& f, const Tensor& x, const Tensor& y);
void unary_backward(Backend, const Unary& f, const Tensor& dy, const Tensor& x, const Tensor& y, const Tensor& dx);
void binary(Backend, Binary f, const Tensor& a, const Tensor& b, const Tensor& y);  // a and b broadcast to y
// ---- gates (gates) ----
// x [rows, 2F] = (a, gate), y [rows, F] = gelu(gate) * a; both activations
void geglu_forward(Backend, const Tensor& x, const Tensor& y);
void geglu_backward(Backend, const Tensor& dy, const Tensor& x, const Tensor& dx);
// y = g z + (1 - g) c, g = sigmoid(beta); c, z [rows, d], beta [d]
void state_gate_forward(Backend, const Tensor& c, const Tensor& z, const Tensor& beta, const Tensor& y);
void state_gate_backward(Backend, const Tensor& dy, const Tensor& c, const Tensor& z, const Tensor& beta,
                         const Tensor& dc, const Tensor& dz, const Into& dbeta);

// ---- reductions (reduce) ----
void sum_to(Backend, const Tensor& x, const Into& y);  // y's shape broadcasts to x's; activations

// ---- choosing (select); a, b and mask broadcast to the result ----
// mask (u8) = whether it holds; a and b of one dtype, any.
void compare(Backend, Relation how, const Tensor& a, const Tensor& b, const Tensor& mask);
// y = a where mask (u8) is not 0, else b; any dtype.
void where(Backend, const Tensor& mask, const Tensor& a, const Tensor& b, const Tensor& y);
// index and y have an element for each line of x
void argmax(Backend, const Tensor& x, const Lines& lines, const Tensor& index);  // the first of the largest; n > 0
void pick_forward(Backend, const Tensor& x, const Lines& lines, const Tensor& index, const Tensor& y);
void pick_backward(Backend, const Tensor& dy, const Lines& lines, const Tensor& index, const Tensor& dx);

// ---- products (gemm) ----
// Where a is bf16, so are the numbers that are multiplied: b may be f32 and is rounded. Sums are made in f32, and c
// is f32 or bf16.
void gemm(Backend, const Gemm& how, const Tensor& a, const Tensor& b, const Tensor& c);
// The same plus `base`, which has the dtype of c and lies as c does.
void gemm_onto(Backend, const Gemm& how, const Tensor& a, const Tensor& b, const Tensor& base, const Tensor& c);
// Whether the device has instructions for products of bf16. Where it has none they are made in f32: as exact, no
// faster.
bool multiplies_bf16(Backend);

// (gemv) y [m, n] = x [m, k] W^T (+ y), for a few rows x: W [n, k] is read once, where it lies. W is of
// x's dtype, or bf16 or i8 with x f32; `scale` [n] multiplies its rows, or is empty. A row's bits depend on no other
// row. The others (on the CPU: fused) are the same for what layer_norm makes of x, up to three products at once, and
// for geglu(x).
void gemv(Backend, const Tensor& x, const Tensor& weight, const Tensor& scale, bool accumulate, const Tensor& y);
void norm_gemv(Backend, const Tensor& x, const Tensor& gamma, double eps, std::span<const Product> products);
void geglu_gemv(Backend, const Tensor& x, const Product& product);

// ---- norms (norm); rows of width n, mean and rstd one number a row ----
// y and dy of layer_norm: activations.
void layer_norm_forward(Backend, const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& mean,
                        const Tensor& rstd);
void layer_norm_backward(Backend, const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& mean,
                         const Tensor& rstd, const Into& dx, const Into& dgamma);
void rms_norm_forward(Backend, const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& rstd);
void rms_norm_backward(Backend, const Tensor& dy, const Tensor& x, const Tensor& gamma, const Tensor& rstd,
                       const Into& dx, const Into& dgamma);
void l2_normalize_forward(Backend, const Tensor& x, const Tensor& scale, const Tensor& y);
void l2_normalize_backward(Backend, const Tensor& dy, const Tensor& x, const Tensor& scale, const Tensor& dx,
                           const Into& dscale);

// ---- softmax and loss (softmax, loss) ----
void softmax_forward(Backend, const Tensor& x, const Tensor& y);
void softmax_backward(Backend, const Tensor& dy, const Tensor& y, const Tensor& dx);
void log_softmax_forward(Backend, const Tensor& x, const Tensor& y);
void log_softmax_backward(Backend, const Tensor& dy, const Tensor& y, const Tensor& dx);
// lse: log of the sum of exponentials, one a row; loss (); count (): the number of labels that are not ignored
void cross_entropy_forward(Backend, const Tensor& logits, const Tensor& labels, int64_t ignore_index,
                           const Tensor& loss, const Tensor& lse, const Tensor& count);
// dloss () is the gradient of the loss
void cross_entropy_backward(Backend, const Tensor& dloss, const Tensor& logits, const Tensor& labels,
                            int64_t ignore_index, const Tensor& lse, const Tensor& count, const Tensor& dlogits);

// ---- embedding (embedding) ----
void embedding_forward(Backend, const Tensor& weight, const Tensor& tokens, const Tensor& y);
void embedding_backward(Backend, const Tensor& dy, const Tensor& tokens, const Tensor& dweight);

// ---- images (unfold) ----
// x [planes, in_height, in_width] -> columns [planes, height, width, out_height, out_width]: what each place of each
// window sees, 0 outside of the plane; and the adjoint, which adds up what each element of a plane was seen as.
void unfold(Backend, const Windows& how, const Tensor& x, const Tensor& columns);
void fold(Backend, const Windows& how, const Tensor& columns, const Tensor& x);

// ---- attention (rotary, attention) ----
void rotary(Backend, const Rotation& how, const Tensor& x, const Tensor& table, const Tensor& y);

// q, kv, memory, y and their gradients: activations; q is not empty
void attention_forward(Backend, const AttentionShape& how, const AttentionInputs& in, AttentionForward& out);
void attention_backward(Backend, const AttentionShape& how, const AttentionInputs& in, const Tensor& dy,
                        const AttentionForward& forward, const AttentionGradients& out);

// ---- decoding (decode; on CUDA also key_value_cache) ----
// Places [n, 3] i64: a CachePlace a token (tensor_of). An empty cache with room for `rows` keys of each sequence:
KeyValueCache key_value_cache(Backend, int64_t batch, int64_t rows, int64_t head_width, DType dtype);
// Stores kv [n, 2D], token i at the row last-1 of its place: the key as k / |k| * scale, then rotated by the table's
// row last-1 (scale and table may be empty; with a table D is even), the value as it is. With raw [batch, R, 2D], also
// kv unchanged at the row (last-1) mod R of its sequence.
void cache_keys(Backend, const Tensor& places, const Tensor& kv, const Tensor& k_scale, const Tensor& table,
                const KeyValueCache& cache, const Tensor& raw);
// For each token and head the attention of Attended, over the rows first..last-1, or all rows of a cache that says all;
// queries are rotated by the table's row last-1. Goes to the columns column..column+H*D-1 of y [n, ...]. A row's bits
// depend on no other row.
void attention_decode(Backend, const Tensor& places, int64_t heads, const Attended& seen, const Tensor& y,
                      int64_t column);
// The product applied to one or two such attentions, one beside the other in a row. What the tokens bring is first
// stored in the cache of seen[0], which does not say all, turned by its table; a place is then no other token's.
void attention_gemv(Backend, const Tensor& places, int64_t heads, std::span<const Attended> seen,
                    const Brought& brought, const Product& product);

// ---- optimizer (optimizer) ----
// norm () = the length of all gradients as one vector; factor () = min(1, max_norm / (norm + 1e-6)).
// A norm that is not finite makes the factor NaN. norm and factor have the gradients' dtype.
void clip_factor(Backend, std::span<const Tensor> grads, double max_norm, const Tensor& norm, const Tensor& factor);
// Counts steps[index] (i64) up by one, then (Kingma & Ba 2015; Loshchilov & Hutter 2019), with g = factor * grad:
// w -= lr * decay * w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w -= lr * m' / (sqrt(v') + eps),
// where m' = m / (1 - b1^step) and v' = v / (1 - b2^step). learning_rate, factor: () of the weights' dtype.
// With a factor of NaN nothing is changed; so below.
void adam_step(Backend, std::span<const AdamSlot> slots, const AdamOptions& how, const Tensor& learning_rate,
               const Tensor& factor, const Tensor& steps);
// With g = factor * grad + weight_decay * w: v = momentum v + g;  w -= lr * (nesterov ? g + momentum v : v).
void sgd_step(Backend, std::span<const SGDSlot> slots, const SGDOptions& how, const Tensor& learning_rate,
              const Tensor& factor);
