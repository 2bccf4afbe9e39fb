// A forward and a backward row for nearly every op of autograd/ops.h: at the shapes of the `readme` model, and some on
// many short rows.
#include "autograd/ops.h"
#include "apps/bench.h"
#include "apps/config.h"
#include "bench/rows.h"
#include "nn/conv.h"
#include "nn/init.h"

namespace rondo::bench {
namespace {

using Op = std::function<Tensor(const std::vector<Tensor>&)>;
using Shapes = std::vector<Shape>;

std::vector<Tensor> random_inputs(const Shapes& shapes) {
  Generator g;
  std::vector<Tensor> inputs;
  // Far enough from 0 for log and division.
  for (const Shape& shape : shapes) inputs.push_back(parameter(normal_init(shape, 8, 1, g)));
  return inputs;
}

// Bytes: inputs and result once; going back, the result's gradient, the inputs and their gradients.
double bytes_of(const std::vector<Tensor>& tensors) {
  double sum = 0;
  for (const Tensor& t : tensors) sum += double(t.n_bytes());
  return sum;
}

Work forward(const Op& op, const Shapes& shapes, double flops) {
  const std::vector<Tensor> inputs = random_inputs(shapes);
  const Cost cost = {bytes_of(inputs) + bytes_of({op(inputs)}), flops};
  return {[=] { return seconds_of([&] { op(inputs); }); }, cost};
}

// Plays the rule of `op` alone: the loss is a recorded op whose own rule hands out a gradient made before.
Work backward(const Op& op, const Shapes& shapes, double flops) {
  const std::vector<Tensor> inputs = random_inputs(shapes);
  Generator g;
  const Tensor dy = normal_init(op(inputs).shape(), 0, 1, g), loss_value = zeros({});
  const auto timed = [=, grads = Gradients()]() mutable {
    Tape tape;
    const Tensor y = op(inputs);
    const Tensor loss = record("loss", {y}, detach(loss_value), [dy](const Tensor&) { return Grads{dy}; });
    const double seconds = seconds_of([&] { tape.backward(loss, 1, grads); });
    grads.clear();
    return seconds;
  };
  return {timed, {2 * bytes_of(inputs) + bytes_of({dy}), flops}};
}

// `flops` of the forward pass; the backward pass of a product costs two of them.
void add_op(const std::string& name, const Shapes& shapes, const Op& op, double flops = 0) {
  add_row(row_name(name, shapes) + " forward", [=] { return forward(op, shapes, flops); });
  add_row(row_name(name, shapes) + " backward", [=] { return backward(op, shapes, 2 * flops); });
}

using Unary = Tensor (*)(const Tensor&);
using Binary = Tensor (*)(const Tensor&, const Tensor&);
Op unary(Unary f) {
  return [f](const std::vector<Tensor>& x) { return f(x[0]); };
}
Op binary(Binary f) {
  return [f](const std::vector<Tensor>& x) { return f(x[0], x[1]); };
}

void add_elementwise_rows(const Shape& x) {
  for (const auto& [name, f] : {std::pair<const char*, Binary>{"add", add},
                                {"sub", sub},
                                {"mul", mul},
                                {"div", div},
                                {"maximum", maximum},
                                {"minimum", minimum}})
    add_op(name, {x, x}, binary(f));
  add_op("add", {x, {x.back()}}, binary(add));
  add_op("mul", {x, {x[0], 1}}, binary(mul));
  add_op("where less", {x, x}, [](const auto& in) { return where(less(in[0], in[1]), in[0], in[1]); });
  add_op("scale", {x}, [](const auto& in) { return scale(in[0], 2); });
  for (const auto& [name, f] : {std::pair<const char*, Unary>{"exp", exp},
                                {"log", log},
                                {"tanh", tanh},
                                {"sigmoid", sigmoid},
                                {"relu", relu},
                                {"gelu", gelu},
                                {"silu", silu},
                                {"softplus", softplus},
                                {"sqrt", sqrt},
                                {"abs", abs}})
    add_op(name, {x}, unary(f));
}

void add_shape_rows(const Shape& x, int64_t heads) {
  const int64_t n = x[0], d = x[1];
  add_op("sum", {x}, [](const auto& in) { return sum(in[0]); });
  add_op("sum axis 0", {x}, [](const auto& in) { return sum(in[0], 0); });
  add_op("sum axis 1", {x}, [](const auto& in) { return sum(in[0], 1); });
  add_op("mean", {x}, [](const auto& in) { return mean(in[0]); });
  add_op("mean axis 1", {x}, [](const auto& in) { return mean(in[0], 1); });
  add_op("sum_to", {x}, [d](const auto& in) { return sum_to(in[0], {d}); });
  add_op("max axis 0", {x}, [](const auto& in) { return max(in[0], 0); });
  add_op("max axis 1", {x}, [](const auto& in) { return max(in[0], 1); });
  add_op("reshape", {x}, [=](const auto& in) { return reshape(in[0], {n, heads, d / heads}); });
  add_op("permute", {{n, heads, d / heads}}, [](const auto& in) { return permute(in[0], {1, 0, 2}); });
  add_op("transpose", {x}, [](const auto& in) { return transpose(in[0]); });
  add_op("narrow", {x}, [=](const auto& in) { return narrow(in[0], 0, n / 2, n / 2); });
  add_op("concat", {x, x}, [](const auto& in) { return concat(in, -1); });
  add_op("stack", {x, x}, [](const auto& in) { return stack(in, 1); });
  add_op("broadcast_to", {{d}}, [x](const auto& in) { return broadcast_to(in[0], x); });
}

void add_row_wise_rows(const Shape& x, int64_t head_width, int64_t num_tokens) {
  const int64_t n = x[0], d = x[1];
  add_op("layer_norm", {x, {d}}, [](const auto& in) { return layer_norm(in[0], in[1]); });
  add_op("rms_norm", {x, {d}}, [](const auto& in) { return rms_norm(in[0], in[1]); });
  add_op("l2_normalize", {x, {head_width}}, binary(l2_normalize));
  add_op("softmax", {x}, unary(softmax));
  add_op("log_softmax", {x}, unary(log_softmax));
  add_op("state_gate", {x, x, {d}}, [](const auto& in) { return state_gate(in[0], in[1], in[2]); });
  Generator g;
  const Tensor tokens = random_tokens({n}, num_tokens, g);
  add_op("cross_entropy", {{n, num_tokens}}, [=](const auto& in) { return cross_entropy(in[0], tokens); });
  add_op("embedding", {{num_tokens, d}}, [=](const auto& in) { return embedding(in[0], tokens); });
}

// Many rows of few numbers.
void add_narrow_rows(int64_t numel) {
  Generator g;
  for (const int64_t width : {10, 32}) {
    const Shape x = {numel / width, width};
    const Tensor labels = random_tokens({x[0]}, width, g);
    add_op("softmax", {x}, unary(softmax));
    add_op("log_softmax", {x}, unary(log_softmax));
    add_op("cross_entropy", {x}, [=](const auto& in) { return cross_entropy(in[0], labels); });
    add_op("layer_norm", {x, {width}}, [](const auto& in) { return layer_norm(in[0], in[1]); });
    add_op("sum axis 0", {x}, [](const auto& in) { return sum(in[0], 0); });
    add_op("sum axis 1", {x}, [](const auto& in) { return sum(in[0], 1); });
    add_op("max axis 1", {x}, [](const auto& in) { return max(in[0], 1); });
    add_op("add", {x, {width}}, binary(add));
    add_op("mul", {x, {x[0], 1}}, binary(mul));
    add_op("transpose", {x}, [](const auto& in) { return transpose(in[0]); });
  }
}

// The layers of a small network that reads digits.
void add_image_rows() {
  const auto conv = [](const auto& in) {
    Conv2d layer;
    layer.how.padding = 1, layer.weight = in[1];
    return layer(in[0]);
  };
  constexpr int64_t kBatch = 32;
  for (const auto& [size, in, out] : {std::array<int64_t, 3>{28, 1, 16}, {14, 16, 32}}) {
    add_op("conv2d", {{kBatch, in, size, size}, {out, in, 3, 3}}, conv,
           2.0 * double(kBatch * size * size * in * out * 9));
    add_op("max_pool2d", {{kBatch, out, size, size}}, [](const auto& in) { return max_pool2d(in[0], 2); });
  }
}

void add_op_rows() {
  const BlockRecurrentConfig c = named_size("readme").model;
  const int64_t n = c.max_seq_len, d = c.dim, F = c.dim * c.ff_mult * 2 / 3, W = c.block_width, D = c.dim_head,
                H = c.heads, S = c.n_state_vectors();
  add_elementwise_rows({n, d});
  add_op("geglu", {{n, 2 * F}}, unary(geglu));
  add_shape_rows({n, d}, H);
  add_row_wise_rows({n, d}, D, c.num_tokens);
  add_narrow_rows(n * d);
  add_image_rows();
  add_op("matmul", {{H, W, D}, {H, D, W}}, binary(matmul), 2.0 * double(H * W * D * W));
  add_op(
      "linear", {{n, d}, {2 * F, d}}, [](const auto& in) { return linear(in[0], in[1]); }, 2.0 * double(n * d * 2 * F));
  add_op(
      "linear, bias, residual", {{n, d}, {d, d}, {d}, {n, d}},
      [](const auto& in) { return linear(in[0], in[1], in[2], in[3]); }, 2.0 * double(n * d * d));
  const Tensor table = rotary_table(W, D);
  add_op("rotary", {{1, n, H * D}}, [=](const auto& in) { return rotary(in[0], table, Rotate::query, W, W); });
  // Each query sees W keys: two products of width D.
  add_op(
      "window_attention", {{1, n, H * D}, {1, n, 2 * D}, {1, W, 2 * D}, {D}, {D}},
      [=](const auto& in) {
        return window_attention(in[0], in[1], in[2], W, {in[3], in[4], table});
      },
      4.0 * double(n * H * D * W));
  add_op(
      "group_attention", {{1, n, H * D}, {1, n / W, S, 2 * D}, {D}, {D}},
      [=](const auto& in) {
        return group_attention(in[0], in[1], W, {in[2], in[3], {}});
      },
      4.0 * double(n * H * D * S));
}

}  // namespace

void add_rows() {
  add_op_rows();
  add_model_rows();
  add_product_rows();
  add_runtime_rows();
  add_ladder_rows();
  add_gpu_rows();
}

}  // namespace rondo::bench
