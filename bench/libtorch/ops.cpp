// Single ops of LibTorch that do what ops of Rondo do, under the names of bench/ops.cpp's rows.
#include <torch/torch.h>

#include <array>

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

using Unary = torch::Tensor (*)(const torch::Tensor&);
using Binary = torch::Tensor (*)(const torch::Tensor&, const torch::Tensor&);
Op unary(Unary f) {
  return [f](const Tensors& in) { return f(in[0]); };
}
Op binary(Binary f) {
  return [f](const Tensors& in) { return f(in[0], in[1]); };
}

void add_elementwise_rows(const Shape& x) {
  for (const auto& [name, f] : {std::pair<const char*, Binary>{"mul", torch::mul},
                                {"div", torch::div},
                                {"maximum", torch::maximum},
                                {"minimum", torch::minimum}})
    add_op(name, {x, x}, binary(f));
  add_op("add", {x, x}, [](const Tensors& in) { return in[0] + in[1]; });
  add_op("sub", {x, x}, [](const Tensors& in) { return in[0] - in[1]; });
  add_op("add", {x, {x.back()}}, [](const Tensors& in) { return in[0] + in[1]; });
  add_op("mul", {x, {x[0], 1}}, [](const Tensors& in) { return in[0] * in[1]; });
  add_op("where less", {x, x}, [](const Tensors& in) { return torch::where(in[0] < in[1], in[0], in[1]); });
  add_op("scale", {x}, [](const Tensors& in) { return in[0] * 2; });
  for (const auto& [name, f] : {std::pair<const char*, Unary>{"exp", torch::exp},
                                {"log", torch::log},
                                {"tanh", torch::tanh},
                                {"sigmoid", torch::sigmoid},
                                {"relu", torch::relu},
                                {"silu", torch::silu},
                                {"sqrt", torch::sqrt},
                                {"abs", torch::abs}})
    add_op(name, {x}, unary(f));
  add_op("gelu", {x}, [](const Tensors& in) { return torch::gelu(in[0]); });
  add_op("softplus", {x}, [](const Tensors& in) { return torch::softplus(in[0]); });
}

void add_shape_rows(const Shape& x, int64_t heads) {
  const int64_t n = x[0], d = x[1];
  add_op("sum", {x}, [](const Tensors& in) { return in[0].sum(); });
  add_op("sum axis 0", {x}, [](const Tensors& in) { return in[0].sum(0); });
  add_op("sum axis 1", {x}, [](const Tensors& in) { return in[0].sum(1); });
  add_op("mean", {x}, [](const Tensors& in) { return in[0].mean(); });
  add_op("mean axis 1", {x}, [](const Tensors& in) { return in[0].mean(1); });
  add_op("sum_to", {x}, [d](const Tensors& in) { return in[0].sum_to_size({d}); });
  add_op("max axis 0", {x}, [](const Tensors& in) { return std::get<0>(in[0].max(0)); });
  add_op("max axis 1", {x}, [](const Tensors& in) { return std::get<0>(in[0].max(1)); });
  // Its permute and transpose share memory; what is timed here is as contiguous as Rondo's.
  add_op("permute", {{n, heads, d / heads}}, [](const Tensors& in) { return in[0].permute({1, 0, 2}).contiguous(); });
  add_op("transpose", {x}, [](const Tensors& in) { return in[0].transpose(0, 1).contiguous(); });
  add_op("concat", {x, x}, [](const Tensors& in) { return torch::cat({in[0], in[1]}, -1); });
  add_op("stack", {x, x}, [](const Tensors& in) { return torch::stack({in[0], in[1]}, 1); });
  add_op("broadcast_to", {{d}}, [=](const Tensors& in) { return in[0].expand({n, d}).contiguous(); });
}

// Many rows of few numbers.
void add_narrow_rows(int64_t numel) {
  namespace F = torch::nn::functional;
  for (const int64_t width : {10, 32}) {
    const Shape x = {numel / width, width};
    const torch::Tensor labels = torch::randint(width, {x[0]});
    add_op("softmax", {x}, [](const Tensors& in) { return in[0].softmax(-1); });
    add_op("log_softmax", {x}, [](const Tensors& in) { return in[0].log_softmax(-1); });
    add_op("cross_entropy", {x}, [=](const Tensors& in) { return F::cross_entropy(in[0], labels); });
    add_op("layer_norm", {x, {width}},
           [=](const Tensors& in) { return F::layer_norm(in[0], F::LayerNormFuncOptions({width}).weight(in[1])); });
    add_op("sum axis 0", {x}, [](const Tensors& in) { return in[0].sum(0); });
    add_op("sum axis 1", {x}, [](const Tensors& in) { return in[0].sum(1); });
    add_op("max axis 1", {x}, [](const Tensors& in) { return std::get<0>(in[0].max(1)); });
    add_op("add", {x, {width}}, [](const Tensors& in) { return in[0] + in[1]; });
    add_op("mul", {x, {x[0], 1}}, [](const Tensors& in) { return in[0] * in[1]; });
    add_op("transpose", {x}, [](const Tensors& in) { return in[0].transpose(0, 1).contiguous(); });
  }
}

// The layers of a small network that reads digits.
void add_image_rows() {
  namespace F = torch::nn::functional;
  constexpr int64_t kBatch = 32;
  for (const auto& [size, in, out] : {std::array<int64_t, 3>{28, 1, 16}, {14, 16, 32}}) {
    add_op(
        "conv2d", {{kBatch, in, size, size}, {out, in, 3, 3}},
        [](const Tensors& in) { return F::conv2d(in[0], in[1], F::Conv2dFuncOptions().padding(1)); },
        2.0 * double(kBatch * size * size * in * out * 9));
    add_op("max_pool2d", {{kBatch, out, size, size}},
           [](const Tensors& in) { return F::max_pool2d(in[0], F::MaxPool2dFuncOptions(2)); });
  }
}

}  // namespace

void add_rows() {
  namespace F = torch::nn::functional;
  torch::set_num_threads(num_threads());
  const BlockRecurrentConfig c = named_size("readme").model;
  const int64_t n = c.max_seq_len, d = c.dim, F2 = 2 * (c.dim * c.ff_mult * 2 / 3), W = c.block_width, D = c.dim_head,
                H = c.heads, V = c.num_tokens;
  add_elementwise_rows({n, d});
  add_op("geglu", {{n, F2}}, [](const Tensors& in) {
    const auto parts = in[0].chunk(2, -1);
    return F::gelu(parts[1]) * parts[0];
  });
  add_shape_rows({n, d}, H);
  add_op("layer_norm", {{n, d}, {d}},
         [d](const Tensors& in) { return F::layer_norm(in[0], F::LayerNormFuncOptions({d}).weight(in[1])); });
  add_op("softmax", {{n, d}}, [](const Tensors& in) { return in[0].softmax(-1); });
  add_op("log_softmax", {{n, d}}, [](const Tensors& in) { return in[0].log_softmax(-1); });
  const torch::Tensor tokens = torch::randint(V, {n});
  add_op("cross_entropy", {{n, V}}, [=](const Tensors& in) { return F::cross_entropy(in[0], tokens); });
  add_op("embedding", {{V, d}}, [=](const Tensors& in) { return F::embedding(tokens, in[0]); });
  add_narrow_rows(n * d);
  add_image_rows();
  add_op(
      "matmul", {{H, W, D}, {H, D, W}}, [](const Tensors& in) { return in[0].matmul(in[1]); },
      2.0 * double(H * W * D * W));
  add_op(
      "linear", {{n, d}, {F2, d}}, [](const Tensors& in) { return F::linear(in[0], in[1]); }, 2.0 * double(n * d * F2));
  add_model_rows();
}

}  // namespace rondo::bench
