// From the obvious way to the one that is used: the steps that docs/fast.md tells, timed beside each other.
#include <cmath>

#include "apps/config.h"
#include "autograd/ops.h"
#include "bench/rows.h"
#include "nn/init.h"
#include "tensor/cpu/gemm.h"
#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo::bench {
namespace {

using Op = std::function<Tensor(const std::vector<Tensor>&)>;

// Forwards and backwards, as a training step does it, on all threads or on one.
void add_step(const std::string& name, const std::vector<Shape>& shapes, double flops, const Op& op, bool one = false) {
  add_row("ladder " + name, [=] {
    Generator g;
    std::vector<Tensor> inputs;
    for (const Shape& shape : shapes) inputs.push_back(parameter(normal_init(shape, 0, 1, g)));
    const auto timed = [=, grads = Gradients()]() mutable {
      const int threads = num_threads();
      if (one) set_num_threads(1);
      const double seconds = seconds_of([&] {
        Tape tape;
        const Tensor y = cast(op(inputs), DType::f32);
        const Tensor loss = record("loss", {y}, zeros({}), [y](const Tensor&) { return Grads{y}; });
        tape.backward(loss, 1, grads);
      });
      set_num_threads(threads);
      grads.clear();
      return seconds;
    };
    double bytes = 0;  // the inputs and their gradients
    for (const Tensor& t : inputs) bytes += 2 * double(t.n_bytes());
    return Work{timed, {.bytes = bytes, .flops = flops}};
  });
}

// C = A B by `multiply`, for the queries of a segment.
void add_product(const std::string& name, DType dtype,
                 void (*multiply)(const Gemm&, const Tensor&, const Tensor&, const Tensor&)) {
  add_row("ladder product: " + name, [=] {
    const BlockRecurrentConfig c = named_size("readme").model;
    const int64_t m = c.max_seq_len, n = c.heads * c.dim_head, k = c.dim;
    Generator g;
    const Tensor a = to(normal_init({m, k}, 0, 1, g), dtype), b = normal_init({k, n}, 0, 1, g), y({m, n});
    const Gemm how{.m = m, .n = n, .k = k, .lda = k, .ldb = n, .ldc = n};
    return Work{[=] { return seconds_of([&] { multiply(how, a, b, y); }); }, {.flops = 2.0 * double(m * n * k)}};
  });
}

void dot_by_dot(const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& c) {
  const float *as = a.data<float>(), *bs = b.data<float>();
  for (int64_t i = 0; i < g.m; ++i)
    for (int64_t j = 0; j < g.n; ++j) {
      float sum = 0;
      for (int64_t p = 0; p < g.k; ++p) sum += as[i * g.lda + p] * bs[p * g.ldb + j];
      c.data<float>()[i * g.ldc + j] = sum;
    }
}
void row_by_row(const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& c) {
  const float *as = a.data<float>(), *bs = b.data<float>();
  for (int64_t i = 0; i < g.m; ++i) {
    float* row = c.data<float>() + i * g.ldc;
    std::fill(row, row + g.n, 0.f);
    for (int64_t p = 0; p < g.k; ++p)
      for (int64_t j = 0; j < g.n; ++j) row[j] += as[i * g.lda + p] * bs[p * g.ldb + j];
  }
}
void on_one_thread(const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& c) {
  cpu::gemm(g.m, g.n, g.k, cpu::View<float>{a.data<float>(), g.lda, 1}, cpu::View<float>{b.data<float>(), g.ldb, 1},
            c.data<float>(), g.ldc, false);
}
void on_all_threads(const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& c) { gemm(Cpu{}, g, a, b, c); }

// Window attention of smaller ops, as one writes it first: block by block, every head against all 2W keys, what is not
// seen masked. q [1, n, H*D], kv [1, n, 2D], memory [1, W, 2D]; mask [W, 2W].
Tensor composed_attention(const Tensor& q, const Tensor& kv, const Tensor& memory, const Tensor& mask) {
  const int64_t n = q.dim(1), W = memory.dim(1), D = kv.dim(2) / 2, H = q.dim(2) / D;
  const Tensor all = concat({memory, kv}, 1);
  std::vector<Tensor> blocks;
  for (int64_t start = 0; start < n; start += W) {
    const Tensor pairs = narrow(all, 1, start, 2 * W);
    const Tensor keys = permute(narrow(pairs, -1, 0, D), {0, 2, 1}), values = narrow(pairs, -1, D, D);
    const Tensor queries = permute(reshape(narrow(q, 1, start, W), {W, H, D}), {1, 0, 2});
    const Tensor scores = scale(matmul(queries, broadcast_to(keys, {H, D, 2 * W})), 1 / std::sqrt(double(D))) + mask;
    const Tensor out = matmul(softmax(scores), broadcast_to(values, {H, 2 * W, D}));
    blocks.push_back(reshape(permute(out, {1, 0, 2}), {1, W, H * D}));
  }
  return concat(blocks, 1);
}

Tensor window_mask(int64_t W) {
  const Tensor mask({W, 2 * W});
  for (int64_t i = 0; i < W; ++i)
    for (int64_t j = 0; j < 2 * W; ++j) mask.data<float>()[i * 2 * W + j] = j > i && j <= i + W ? 0 : -1e30f;
  return mask;
}

void add_attention_rows(const BlockRecurrentConfig& c) {
  const int64_t n = c.max_seq_len, W = c.block_width, D = c.dim_head, H = c.heads;
  const std::vector<Shape> shapes = {{1, n, H * D}, {1, n, 2 * D}, {1, W, 2 * D}};
  const double flops = 3.5 * 4.0 * double(n * H * D * W);  // two products forwards, five backwards, of what is seen
  const Op fused = [=](const auto& in) { return window_attention(in[0], in[1], in[2], W); };
  const Op narrow = [=](const auto& in) {
    const auto f = [](const Tensor& t) { return cast(t, DType::bf16); };
    return window_attention(f(in[0]), f(in[1]), f(in[2]), W);
  };
  const Op composed = [mask = window_mask(W)](const auto& in) { return composed_attention(in[0], in[1], in[2], mask); };
  add_step("attention: composed of ops, one thread", shapes, flops, composed, true);
  add_step("attention: composed of ops", shapes, flops, composed);
  add_step("attention: fused, one thread", shapes, flops, fused, true);
  add_step("attention: fused", shapes, flops, fused);
  add_step("attention: fused, bf16", shapes, flops, narrow);
}

void add_fused_rows(const BlockRecurrentConfig& c) {
  const int64_t n = c.max_seq_len, d = c.dim, F = d * c.ff_mult * 2 / 3, V = c.num_tokens;
  add_step("geglu: composed", {{n, 2 * F}}, 0,
           [=](const auto& in) { return narrow(in[0], -1, 0, F) * gelu(narrow(in[0], -1, F, F)); });
  add_step("geglu: fused", {{n, 2 * F}}, 0, [](const auto& in) { return geglu(in[0]); });

  add_step("layer_norm: composed", {{n, d}, {d}}, 0, [=](const auto& in) {
    const Tensor centred = in[0] - reshape(mean(in[0], -1), {n, 1});
    const Tensor variance = reshape(mean(centred * centred, -1), {n, 1});
    return centred / exp(scale(log(variance + full({1}, 1e-5)), 0.5)) * in[1];
  });
  add_step("layer_norm: fused", {{n, d}, {d}}, 0, [](const auto& in) { return layer_norm(in[0], in[1]); });

  std::vector<int64_t> labels;
  const Tensor picked = zeros({n, V});
  for (int64_t i = 0; i < n; ++i) labels.push_back(i * 7 % V), picked.data<float>()[i * V + i * 7 % V] = 1;
  const Tensor targets = tensor(labels, {n});
  add_step("cross_entropy: composed", {{n, V}}, 0,
           [=](const auto& in) { return scale(sum(log_softmax(in[0]) * picked), -1.0 / double(n)); });
  add_step("cross_entropy: fused", {{n, V}}, 0, [=](const auto& in) { return cross_entropy(in[0], targets); });

  const std::vector<Shape> state = {{n, d}, {n, d}, {d}};
  add_step("state_gate: composed", state, 0, [](const auto& in) {
    const Tensor g = sigmoid(in[2]);
    return g * in[1] + (full({1}, 1) - g) * in[0];
  });
  add_step("state_gate: fused", state, 0, [](const auto& in) { return state_gate(in[0], in[1], in[2]); });

  const std::vector<Shape> product = {{n, d}, {d, d}, {n, d}};
  const double flops = 6.0 * double(n * d * d);
  add_step("residual: added after the product", product, flops,
           [](const auto& in) { return linear(in[0], in[1]) + in[2]; });
  add_step("residual: added by the product", product, flops,
           [](const auto& in) { return linear(in[0], in[1], {}, in[2]); });
}

}  // namespace

void add_ladder_rows() {
  const BlockRecurrentConfig c = named_size("readme").model;
  add_product("dot by dot", DType::f32, dot_by_dot);
  add_product("row by row", DType::f32, row_by_row);
  add_product("packed, in registers, one thread", DType::f32, on_one_thread);
  add_product("the same, all threads", DType::f32, on_all_threads);
  add_product("the same in bf16, all threads", DType::bf16, on_all_threads);
  add_attention_rows(c);
  add_fused_rows(c);
}

}  // namespace rondo::bench
