// Single ops of LibTorch that do what ops of Rondo do, under the names of bench/ops.cpp's rows.
#include <torch/torch.h>

#include "apps/config.h"
#include "bench/rows.h"
#include "tensor/parallel.h"

namespace rondo::bench {
namespace {

using Tensors = std::vector<torch::Tensor>;
using Op = std::function<torch::Tensor(const Tensors&)>;
using Shapes = std::vector<Shape>;

Tensors random_inputs(const Shapes& shapes) {
  Tensors inputs;
  for (const Shape& shape : shapes)
    inputs.push_back(torch::randn(std::vector<int64_t>(shape.begin(), shape.end())).add_(8).requires_grad_());
  return inputs;
}

double bytes_of(const Tensors& tensors) {
  double sum = 0;
  for (const torch::Tensor& t : tensors) sum += 4 * double(t.numel());
  return sum;
}

Work forward(const Op& op, const Shapes& shapes, double flops) {
  const Tensors inputs = random_inputs(shapes);
  const torch::NoGradGuard no_grad;
  const Cost cost = {bytes_of(inputs) + bytes_of({op(inputs)}), flops};
  const auto timed = [=] {
    const torch::NoGradGuard inside;
    return seconds_of([&] { op(inputs); });
  };
  return {timed, cost};
}

Work backward(const Op& op, const Shapes& shapes, double flops) {
  const Tensors inputs = random_inputs(shapes);
  const torch::Tensor dy = torch::randn_like(op(inputs));
  const auto timed = [=] {
    const torch::Tensor y = op(inputs);
    return seconds_of([&] { torch::autograd::grad({y}, inputs, {dy}); });
  };
  return {timed, {2 * bytes_of(inputs) + bytes_of({dy}), flops}};
}

void add_op(const std::string& name, const Shapes& shapes, const Op& op, double flops = 0) {
  add_row(row_name(name, shapes) + " forward", [=] { return forward(op, shapes, flops); });
  add_row(row_name(name, shapes) + " backward", [=] { return backward(op, shapes, 2 * flops); });
}

}  // namespace

void add_rows() {
  namespace F = torch::nn::functional;
  torch::set_num_threads(num_threads());
  const BlockRecurrentConfig c = named_size("readme").model;
  const int64_t n = c.max_seq_len, d = c.dim, F2 = 2 * (c.dim * c.ff_mult * 2 / 3), W = c.block_width, D = c.dim_head,
                H = c.heads, V = c.num_tokens;
  add_op("add", {{n, d}, {n, d}}, [](const Tensors& in) { return in[0] + in[1]; });
  add_op("mul", {{n, d}, {n, d}}, [](const Tensors& in) { return in[0] * in[1]; });
  add_op("gelu", {{n, d}}, [](const Tensors& in) { return F::gelu(in[0]); });
  add_op("geglu", {{n, F2}}, [](const Tensors& in) {
    const auto parts = in[0].chunk(2, -1);
    return F::gelu(parts[1]) * parts[0];
  });
  add_op("sum", {{n, d}}, [](const Tensors& in) { return in[0].sum(); });
  add_op("layer_norm", {{n, d}, {d}},
         [d](const Tensors& in) { return F::layer_norm(in[0], F::LayerNormFuncOptions({d}).weight(in[1])); });
  add_op("softmax", {{n, d}}, [](const Tensors& in) { return in[0].softmax(-1); });
  const torch::Tensor tokens = torch::randint(V, {n});
  add_op("cross_entropy", {{n, V}}, [=](const Tensors& in) { return F::cross_entropy(in[0], tokens); });
  add_op("embedding", {{V, d}}, [=](const Tensors& in) { return F::embedding(tokens, in[0]); });
  add_op(
      "matmul", {{H, W, D}, {H, D, W}}, [](const Tensors& in) { return in[0].matmul(in[1]); },
      2.0 * double(H * W * D * W));
  add_op(
      "linear", {{n, d}, {F2, d}}, [](const Tensors& in) { return F::linear(in[0], in[1]); }, 2.0 * double(n * d * F2));
}

}  // namespace rondo::bench
