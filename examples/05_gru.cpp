// 5. A model of your own: a gated recurrent unit (Cho et al. 2014) learns a rhyme by heart, byte by byte. With a
// schedule, dropout, and files.
#include <rondo/rondo.h>

#include <cstdio>
#include <string>

using namespace rondo;

constexpr int64_t kBytes = 256, kWidth = 96, kBatch = 16, kLength = 64;

// x [B, in] and the state before it h [B, width] -> the state after it.
struct Gru {
  Linear of_input, of_state;
  Gru(int64_t in, int64_t width, Generator& g)
      : of_input(in, 3 * width, true, g), of_state(width, 3 * width, true, g) {}

  Tensor operator()(const Tensor& x, const Tensor& h) const {
    const Tensors from_x = split(of_input(x), 3, -1), from_h = split(of_state(h), 3, -1);
    const Tensor reset = sigmoid(from_x[0] + from_h[0]), keep = sigmoid(from_x[1] + from_h[1]);
    const Tensor fresh = tanh(from_x[2] + reset * from_h[2]);
    return (1 - keep) * fresh + keep * h;
  }

  template <class F>
  void each(F&& f) {
    each_in("of_input.", of_input, f);
    each_in("of_state.", of_state, f);
  }
};

struct Model {
  Embedding table;
  Gru gru;
  Linear out;
  explicit Model(Generator& g) : table(kBytes, 32, g), gru(32, kWidth, g), out(kWidth, kBytes, true, g) {}

  // tokens [B, n] -> logits [B, n, 256]. h is the state before them, and becomes the one after them.
  Tensor operator()(const Tensor& tokens, Tensor& h, double dropped, Generator& g) const {
    Tensors states;
    for (const Tensor& x : split(table(tokens), tokens.dim(1), 1))
      states.push_back(h = gru(reshape(x, {tokens.dim(0), 32}), h));
    const Tensor all = stack(states, 1);
    return out(dropped > 0 ? dropout(all, dropped, g) : all);
  }

  template <class F>
  void each(F&& f) {
    each_in("table.", table, f);
    each_in("gru.", gru, f);
    each_in("out.", out, f);
  }
};

const std::string kRhyme =
    "For want of a nail the shoe was lost. For want of a shoe the horse was lost. For want of a horse the rider was "
    "lost. "
    "For want of a rider the message was lost. For want of a message the battle was lost. ";

// Rows of the rhyme, which goes round and round, from anywhere on: [B, n + 1].
Tensor rows(Generator& g) {
  std::string text;
  for (int64_t row = 0; row < kBatch; ++row) {
    const int64_t begin = g.below(int64_t(kRhyme.size()));
    text += (kRhyme + kRhyme).substr(size_t(begin), kLength + 1);
  }
  return reshape(tokens_of(text), {kBatch, kLength + 1});
}

// What the likeliest byte makes of a beginning.
std::string written(const Model& model, const std::string& beginning, size_t n) {
  Generator unused;
  Tensor h = zeros({1, kWidth}), next = tokens_of(beginning);
  std::string text = beginning;
  while (text.size() < n) {
    const std::vector<int64_t> likeliest = argmax(model(next, h, 0, unused)).to_vector<int64_t>();
    text += char(likeliest.back());
    next = tensor<int64_t>({likeliest.back()}, {1, 1});
  }
  return text;
}

int main() {
  Generator g{.seed = 1};
  const Model model(g);
  Adam adam(parameters(model), {.clip_grad_norm = 1});
  const Schedule schedule{.shape = "cosine", .warmup_steps = 20, .decay_steps = 600};
  for (int step = 1; step <= 600; ++step) {
    adam.set_learning_rate(1e-2 * schedule.share(step));
    const auto [tokens, labels] = inputs_and_labels(rows(g));
    Tape tape;
    Tensor h = zeros({kBatch, kWidth});
    const Tensor loss = cross_entropy(model(tokens, h, 0.1, g), labels);
    adam.step(tape.backward(loss));
    if (step % 100 == 0) std::printf("step %d  loss %.3f\n", step, loss.item());
  }

  // Another model, with the same weights by way of a file. (named_tensors(adam) would go on training.)
  write_safetensors("gru.safetensors", named_tensors(model));
  Generator other{.seed = 2};
  const Model read(other);
  load_tensors(read_safetensors("gru.safetensors"), named_tensors(read), true, "gru.safetensors");
  const std::string text = written(read, "For want of a horse ", 90);
  std::printf("%s\n", text.c_str());

  return (kRhyme + kRhyme).find(text) != std::string::npos ? 0 : 1;
}
