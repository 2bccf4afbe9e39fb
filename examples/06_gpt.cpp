// 6. An ordinary transformer (Radford et al. 2019, in small): it learns to sort. It reads six digits, then writes them
// again in order, each from all tokens before it.
#include <rondo/rondo.h>

#include <algorithm>
#include <cstdio>

using namespace rondo;

constexpr int64_t kDigits = 6, kKinds = 4, kWidth = 48, kDepth = 3, kHeads = 4, kBatch = 64;
constexpr int64_t kContext = 2 * kDigits - 1;  // the last token is never read

struct Block {
  LayerNorm before_attention, before_mlp;
  SelfAttention attention;
  Linear up, down;
  explicit Block(Generator& g)
      : before_attention(kWidth),
        before_mlp(kWidth),
        attention(kWidth, {.heads = kHeads}, g),
        up(kWidth, 4 * kWidth, true, g),
        down(4 * kWidth, kWidth, true, g) {}

  Tensor operator()(const Tensor& x, SelfAttention::Past& past) const {
    const Tensor h = attention(before_attention(x), past, x);  // the residual is part of the layer's last product
    return down(gelu(up(before_mlp(h))), h);
  }

  template <class F>
  void each(F&& f) {
    each_in("before_attention.", before_attention, f);
    each_in("attention.", attention, f);
    each_in("before_mlp.", before_mlp, f);
    each_in("up.", up, f);
    each_in("down.", down, f);
  }
};

struct Gpt {
  Embedding tokens, places;
  std::vector<Block> blocks;
  LayerNorm norm;
  Linear out;
  explicit Gpt(Generator& g)
      : tokens(kKinds, kWidth, g), places(kContext, kWidth, g), norm(kWidth), out(kWidth, kKinds, false, g) {
    for (int64_t i = 0; i < kDepth; ++i) blocks.emplace_back(g);
  }

  // What has been read: the blocks' keys and values, so that nothing is read twice.
  struct Past {
    int64_t tokens = 0;
    std::vector<SelfAttention::Past> blocks = std::vector<SelfAttention::Past>(kDepth);
  };
  // tokens [B, n], which follow those of `past` -> logits of the token after each [B, n, kinds]
  Tensor operator()(const Tensor& read, Past& past) const {
    Tensor x = tokens(read) + places(narrow(arange(kContext), 0, past.tokens, read.dim(1)));
    for (size_t i = 0; i < blocks.size(); ++i) x = blocks[i](x, past.blocks[i]);
    past.tokens += read.dim(1);
    return out(norm(x));
  }

  template <class F>
  void each(F&& f) {
    each_in("tokens.", tokens, f);
    each_in("places.", places, f);
    for (size_t i = 0; i < blocks.size(); ++i) each_in("blocks." + std::to_string(i) + ".", blocks[i], f);
    each_in("norm.", norm, f);
    each_in("out.", out, f);
  }
};

struct Batch {
  Tensor read, next;  // [B, 2n - 1]: digits and the same sorted; and the token after each, where it can be known
};
Batch exercises(int64_t batch, Generator& g) {
  std::vector<int64_t> read, next;
  for (int64_t row = 0; row < batch; ++row) {
    std::vector<int64_t> digits(kDigits);
    for (int64_t& digit : digits) digit = g.below(kKinds);
    std::vector<int64_t> all = digits;
    std::sort(digits.begin(), digits.end());
    all.insert(all.end(), digits.begin(), digits.end());
    read.insert(read.end(), all.begin(), all.end() - 1);
    std::fill(all.begin(), all.begin() + kDigits, -100);  // cross_entropy ignores these
    next.insert(next.end(), all.begin() + 1, all.end());
  }
  return {tensor(read, {batch, kContext}), tensor(next, {batch, kContext})};
}

// The digits of each row, continued by the likeliest tokens.
Tensor sorted(const Gpt& gpt, const Tensor& digits) {
  Gpt::Past past;
  Tensors written{narrow(argmax(gpt(digits, past)), 1, kDigits - 1, 1)};
  while (int64_t(written.size()) < kDigits) written.push_back(argmax(gpt(written.back(), past)));
  return concat(written, 1);
}

int main() {
  Generator g{.seed = 1};
  const Gpt gpt(g);
  Adam adam(parameters(gpt), {.clip_grad_norm = 1});
  DataParallel halves(parameters(gpt));
  const Schedule schedule{.shape = "cosine", .warmup_steps = 20, .decay_steps = 200};
  for (int step = 1; step <= 200; ++step) {
    adam.set_learning_rate(3e-3 * schedule.share(step));
    const Batch batch = exercises(kBatch, g);
    // One tape would do. As the ops are small, the halves of the batch go through the model at once, each on a thread
    // and a tape of its own. (They weigh the same: each row has as many labels that count.)
    const auto loss_of = [&](int64_t first, int64_t rows) {
      Gpt::Past nothing;
      return cross_entropy(gpt(narrow(batch.read, 0, first, rows), nothing), narrow(batch.next, 0, first, rows));
    };
    Gradients grads;
    const double loss = halves.backward(kBatch, 2, loss_of, grads);
    adam.step(grads);
    if (step % 100 == 0) std::printf("step %d  loss %.4f\n", step, loss);
  }

  const auto [read, next] = exercises(1000, g);
  const Tensor digits = narrow(read, 1, 0, kDigits), answers = sorted(gpt, digits);
  const Tensor right = min(to(equal(answers, narrow(next, 1, kDigits - 1, kDigits)), DType::f32), 1);
  const double share = mean(right).item();
  std::printf("for example:");
  for (int64_t digit : reshape(narrow(digits, 0, 0, 1), {-1}).to_vector<int64_t>()) std::printf(" %d", int(digit));
  std::printf(" ->");
  for (int64_t digit : reshape(narrow(answers, 0, 0, 1), {-1}).to_vector<int64_t>()) std::printf(" %d", int(digit));
  std::printf("\nsorted without a fault: %.3f of 1000 new rows\n", share);

  return share > 0.95 ? 0 : 1;
}
