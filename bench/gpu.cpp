// Rows on a GPU, where there is one: ops at the shapes of the `readme` model, in the types that training in bf16 has
// them in, with many rows, so that they come from memory and fill the device.
#include <cmath>

#include "apps/bench.h"
#include "apps/config.h"
#include "autograd/ops.h"
#include "bench/gpu_time.h"
#include "bench/rows.h"
#include "nn/optimizer.h"
#include "tensor/device.h"

namespace rondo::bench {
namespace {

using Inputs = std::vector<Tensor>;
using Op = std::function<Tensor(const Inputs&)>;

constexpr int kRounds = 5;  // of kTimes

double bytes_of(const Inputs& tensors) {
  double sum = 0;
  for (const Tensor& t : tensors) sum += double(t.n_bytes());
  return sum;
}

struct Input {
  Shape shape;
  DType dtype;
};

Inputs random_inputs(const std::vector<Input>& inputs) {
  Generator g;
  Inputs made;
  for (const Input& i : inputs) made.push_back(random(i.shape, i.dtype, g));
  return made;
}

Work forward(const Op& op, const Inputs& in, double flops) {
  return {[=] { return seconds_on_gpu([&](int) { op(in); }); },
          {.bytes = bytes_of(in) + bytes_of({op(in)}), .flops = flops, .device = Device::cuda}};
}

// Plays the rule of `op` alone, once for each of kTimes tapes made before.
Work backward(const Op& op, const Inputs& in, double flops) {
  Generator g;
  const Tensor y = op(in), dy = detach(random(y.shape(), y.dtype(), g)),
               loss_value = zeros({}, DType::f32, Device::cuda);
  const auto timed = [=] {
    Gradients grads;
    double seconds = 0;
    for (int i = 0; i < kTimes; ++i) {
      Tape tape;
      const Tensor result = op(in);
      const Tensor loss = record("loss", {result}, detach(loss_value), [dy](const Tensor&) { return Grads{dy}; });
      wait_for_gpu();
      seconds += seconds_of([&] {
        tape.backward(loss, 1, grads);
        wait_for_gpu();
      });
      grads.clear();
    }
    return seconds / kTimes;
  };
  return {timed, {.bytes = 2 * bytes_of(in) + bytes_of({dy}), .flops = flops, .device = Device::cuda}};
}

// `flops` of the forward pass, and of the backward pass.
void add_op(const std::string& name, const std::vector<Input>& inputs, const Op& op, double flops = 0,
            double backward_flops = 0) {
  std::string row = "cuda " + name;
  for (const Input& i : inputs) row += " " + text(i.shape) + (i.dtype == DType::bf16 ? " bf16" : "");
  add_row(
      row + " forward", [=] { return forward(op, random_inputs(inputs), flops); }, kRounds);
  add_row(
      row + " backward", [=] { return backward(op, random_inputs(inputs), backward_flops); }, kRounds);
}

// Weight, both moments and gradient, read and written but for the last.
void add_adam(int64_t n) {
  const auto prepare = [=] {
    Generator g;
    const Tensor weight = random({n}, DType::f32, g);
    auto adam = std::make_shared<Adam>(std::vector<NamedTensor>{{"weight", weight, true}}, OptimizerConfig{});
    auto grads = std::make_shared<Gradients>();
    grads->add(weight, detach(random({n}, DType::f32, g)));
    // The norm of the gradients is another pass over them.
    return Work{[=] { return seconds_on_gpu([&](int) { adam->step(*grads); }); },
                {.bytes = 8 * 4.0 * double(n), .device = Device::cuda}};
  };
  add_row("cuda adam " + text({n}), prepare, kRounds);
}

// One head's keys for all queries of a group, as one writes it first: every score in memory.
Tensor composed_attention(const Inputs& in, int64_t groups, int64_t width, int64_t heads) {
  const int64_t D = in[1].dim(-1), keys = in[1].dim(1);
  const Tensor q = reshape(in[0], {groups, width * heads, D}), k = permute(in[1], {0, 2, 1});
  return matmul(softmax(scale(matmul(q, k), 1 / std::sqrt(double(D)))), reshape(in[2], {groups, keys, D}));
}
Tensor composed_norm(const Inputs& in) {
  const Shape column = {in[0].dim(0), 1};
  const Tensor centred = sub(in[0], reshape(mean(in[0], 1), column));
  const Tensor variance = reshape(mean(mul(centred, centred), 1), column);
  return mul(mul(centred, exp(scale(log(variance), -0.5))), in[1]);
}

// From the obvious way to the one that is used (docs/kernels.md).
void add_gpu_ladder(const BlockRecurrentConfig& c, int64_t rows) {
  constexpr DType f32 = DType::f32, bf16 = DType::bf16;
  const int64_t W = c.block_width, D = c.dim_head, H = c.heads, groups = rows / W, d = c.dim;
  const double product = 2.0 * double(rows * H * D * W);
  add_op(
      "ladder attention 1: composed", {{{rows, H * D}, f32}, {{groups, W, D}, f32}, {{groups, W, D}, f32}},
      [=](const Inputs& in) { return composed_attention(in, groups, W, H); }, 2 * product, 4 * product);
  for (const DType dtype : {f32, bf16})
    add_op(
        dtype == f32 ? "ladder attention 2: tiles, multiply-adds" : "ladder attention 3: tiles, tensor cores",
        {{{1, rows, H * D}, dtype}, {{1, groups, W, 2 * D}, dtype}},
        [=](const Inputs& in) { return group_attention(in[0], in[1], W); }, 2 * product, 5 * product);
  add_op("ladder norm 1: composed", {{{rows, d}, f32}, {{d}, f32}}, composed_norm);
  add_op("ladder norm 2: a block a row", {{{rows, d - 1}, f32}, {{d - 1}, f32}},
         [](const Inputs& in) { return layer_norm(in[0], in[1]); });
  add_op("ladder norm 3: a warp holds a row", {{{rows, d}, f32}, {{d}, f32}},
         [](const Inputs& in) { return layer_norm(in[0], in[1]); });
}

}  // namespace

void add_gpu_rows() {
  if (!why_unusable(Device::cuda).empty()) return;
  constexpr DType f32 = DType::f32, bf16 = DType::bf16;
  const BlockRecurrentConfig c = named_size("readme").model;
  const int64_t batch = 32, n = c.max_seq_len, rows = batch * n, d = c.dim, F = (d * c.ff_mult * 2 / 3 + 15) / 16 * 16,
                W = c.block_width, D = c.dim_head, H = c.heads, S = c.n_state_vectors();
  add_op("add", {{{rows, d}, f32}, {{rows, d}, f32}}, [](const Inputs& in) { return add(in[0], in[1]); });
  add_op("layer_norm", {{{rows, d}, f32}, {{d}, f32}},
         [](const Inputs& in) { return layer_norm(in[0], in[1], 1e-5, DType::bf16); });
  add_op("geglu", {{{rows, 2 * F}, bf16}}, [](const Inputs& in) { return geglu(in[0]); });
  Generator g;
  const Tensor tokens = to(random_tokens({rows}, c.num_tokens, g), Device::cuda);
  add_op("cross_entropy", {{{rows, c.num_tokens}, f32}},
         [=](const Inputs& in) { return cross_entropy(in[0], tokens); });
  add_op("embedding", {{{c.num_tokens, d}, f32}}, [=](const Inputs& in) { return embedding(in[0], tokens); });
  add_op("state_gate", {{{rows, d}, f32}, {{rows, d}, f32}, {{d}, f32}},
         [](const Inputs& in) { return state_gate(in[0], in[1], in[2]); });
  add_adam(int64_t{64} << 20);
  // Two products of width D for each query and key that it sees; going back five.
  const Tensor table = rotary_table(W, D, f32, Device::cuda);
  const double product = 2.0 * double(rows * H * D);
  add_op(
      "window_attention",
      {{{batch, n, H * D}, bf16}, {{batch, n, 2 * D}, bf16}, {{batch, W, 2 * D}, bf16}, {{D}, f32}, {{D}, f32}},
      [=](const Inputs& in) {
        return window_attention(in[0], in[1], in[2], W, {in[3], in[4], table});
      },
      2 * product * double(W), 5 * product * double(W));
  add_op(
      "group_attention", {{{batch, n, H * D}, bf16}, {{batch, n / W, S, 2 * D}, bf16}, {{D}, f32}, {{D}, f32}},
      [=](const Inputs& in) {
        return group_attention(in[0], in[1], W, {in[2], in[3], {}});
      },
      2 * product * double(S), 5 * product * double(S));
  add_gpu_ladder(c, rows);
  for (const int64_t m : {4 * n, rows})
    for (const auto& [out, in] : {std::pair{H * D, d}, {2 * D, d}, {2 * F, d}, {d, F}}) {
      const double flops = 2.0 * double(m * out * in);
      add_op(
          "linear", {{{m, in}, bf16}, {{out, in}, f32}}, [](const Inputs& in) { return linear(in[0], in[1]); }, flops,
          2 * flops);
    }
}

}  // namespace rondo::bench
