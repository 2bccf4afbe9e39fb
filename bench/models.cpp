// A training step of small models that somebody writes: forward, backward, Adam. bench/libtorch/models.cpp has them
// too.
#include <memory>

#include "apps/bench.h"
#include "bench/rows.h"
#include "nn/data_parallel.h"
#include "nn/layers.h"
#include "nn/optimizer.h"

namespace rondo::bench {
namespace {

template <class Model>
struct Training {
  Model model;
  Tensor x, labels;
  Adam adam;
  DataParallel parallel;
  Training(Model made, Tensor input, Tensor wanted)
      : model(made), x(input), labels(wanted), adam(parameters(model), {}), parallel(parameters(model)) {}

  void step(int64_t parts) {
    const auto loss = [&](int64_t first, int64_t rows) {
      return cross_entropy(model(narrow(x, 0, first, rows)), narrow(labels, 0, first, rows));
    };
    Gradients grads;
    parallel.backward(x.dim(0), parts, loss, grads);
    adam.step(grads);
  }
};

// Steps of model(x) towards `labels`, the batch in so many parts as is fastest on two threads.
template <class Model>
void add_model(const std::string& name, int64_t parts, std::function<Model(Generator&)> make,
               std::function<Tensor(Generator&)> input, const Shape& labels, int64_t classes) {
  add_row("step " + name, [=]() -> Work {
    Generator g{.seed = 1};
    Model model = make(g);
    const Tensor x = input(g), y = random_tokens(labels, classes, g);
    const auto training = std::make_shared<Training<Model>>(model, x, y);
    return {[=] { return seconds_of([&] { training->step(parts); }); }, {}};
  });
}

struct Mlp {
  Linear a, b, c;
  explicit Mlp(Generator& g) : a(784, 256, true, g), b(256, 128, true, g), c(128, 10, true, g) {}
  Tensor operator()(const Tensor& x) const { return c(relu(b(relu(a(x))))); }
  template <class F>
  void each(F&& f) {
    each_in("a.", a, f), each_in("b.", b, f), each_in("c.", c, f);
  }
};

// A gated recurrent unit (Cho et al. 2014) made of ops.
struct Gru {
  Embedding table;
  Linear of_input, of_state, out;
  explicit Gru(Generator& g)
      : table(256, 32, g), of_input(32, 288, true, g), of_state(96, 288, true, g), out(96, 256, true, g) {}

  Tensor next(const Tensor& x, const Tensor& h) const {
    const Tensors from_x = split(of_input(x), 3, -1), from_h = split(of_state(h), 3, -1);
    const Tensor reset = sigmoid(from_x[0] + from_h[0]), keep = sigmoid(from_x[1] + from_h[1]);
    return (1 - keep) * tanh(from_x[2] + reset * from_h[2]) + keep * h;
  }
  Tensor operator()(const Tensor& tokens) const {
    Tensors states;
    Tensor h = zeros({tokens.dim(0), 96});
    for (const Tensor& x : split(table(tokens), tokens.dim(1), 1))
      states.push_back(h = next(reshape(x, {tokens.dim(0), 32}), h));
    return out(stack(states, 1));
  }
  template <class F>
  void each(F&& f) {
    each_in("table.", table, f), each_in("of_input.", of_input, f), each_in("of_state.", of_state, f);
    each_in("out.", out, f);
  }
};

struct Block {
  LayerNorm norm, norm2;
  SelfAttention attention;
  Linear up, down;
  Block(int64_t dim, int64_t heads, Generator& g)
      : norm(dim),
        norm2(dim),
        attention(dim, {.heads = heads}, g),
        up(dim, 4 * dim, true, g),
        down(4 * dim, dim, true, g) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor h = attention(norm(x), x);
    return down(gelu(up(norm2(h))), h);
  }
  template <class F>
  void each(F&& f) {
    each_in("norm.", norm, f), each_in("norm2.", norm2, f), each_in("attention.", attention, f);
    each_in("up.", up, f), each_in("down.", down, f);
  }
};

struct Gpt {
  Embedding table, places;
  std::vector<Block> blocks;
  LayerNorm norm;
  Linear out;
  Gpt(int64_t dim, int64_t depth, int64_t heads, int64_t context, Generator& g)
      : table(256, dim, g), places(context, dim, g), norm(dim), out(dim, 256, false, g) {
    for (int64_t i = 0; i < depth; ++i) blocks.emplace_back(dim, heads, g);
  }
  Tensor operator()(const Tensor& tokens) const {
    Tensor x = table(tokens) + places.weight;
    for (const Block& block : blocks) x = block(x);
    return out(norm(x));
  }
  template <class F>
  void each(F&& f) {
    each_in("table.", table, f), each_in("places.", places, f);
    for (size_t i = 0; i < blocks.size(); ++i) each_in(std::to_string(i) + ".", blocks[i], f);
    each_in("norm.", norm, f), each_in("out.", out, f);
  }
};

}  // namespace

void add_model_rows() {
  const auto images = [](Generator& g) { return normal_init({64, 784}, 0, 1, g); };
  const auto mlp = [](Generator& g) { return Mlp(g); };
  add_model<Mlp>("MLP 784-256-128-10, batch 64", 1, mlp, images, {64}, 10);
  const auto tokens = [](const Shape& shape) { return [=](Generator& g) { return random_tokens(shape, 256, g); }; };
  const auto gru = [](Generator& g) { return Gru(g); };
  add_model<Gru>("GRU 96, batch 16, 64 tokens", 2, gru, tokens({16, 64}), {16, 64}, 256);
  const auto gpt = [](Generator& g) { return Gpt(64, 2, 4, 64, g); };
  add_model<Gpt>("GPT 64, 2 layers, batch 8, 64 tokens", 2, gpt, tokens({8, 64}), {8, 64}, 256);
  const auto larger = [](Generator& g) { return Gpt(128, 4, 4, 256, g); };
  add_model<Gpt>("GPT 128, 4 layers, batch 8, 256 tokens", 1, larger, tokens({8, 256}), {8, 256}, 256);
}

}  // namespace rondo::bench
