// The models of bench/models.cpp as LibTorch's users write them: its own layers, its fused attention and recurrence.
// (Its norms train a beta, which Rondo's do not have.)
#include <torch/torch.h>

#include "bench/rows.h"

namespace rondo::bench {
namespace {

namespace nn = torch::nn;
using torch::Tensor;

template <class Model>
void add_model(const std::string& name, std::function<Model()> make, std::function<Tensor()> input,
               std::vector<int64_t> labels, int64_t classes) {
  add_row("step " + name, [=] {
    torch::manual_seed(1);
    const Model model = make();
    const auto adam = std::make_shared<torch::optim::Adam>(model->parameters(), torch::optim::AdamOptions(1e-3));
    const Tensor x = input(), y = torch::randint(classes, labels);
    return Work{[=] {
                  return seconds_of([&] {
                    adam->zero_grad();
                    const Tensor logits = Model(model)->forward(x);
                    nn::functional::cross_entropy(logits.flatten(0, -2), y.flatten()).backward();
                    adam->step();
                  });
                },
                {}};
  });
}

struct MlpImpl : nn::Module {
  nn::Linear a{784, 256}, b{256, 128}, c{128, 10};
  MlpImpl() { register_module("a", a), register_module("b", b), register_module("c", c); }
  Tensor forward(const Tensor& x) { return c(torch::relu(b(torch::relu(a(x))))); }
};
TORCH_MODULE(Mlp);

struct GruImpl : nn::Module {
  nn::Embedding table{256, 32};
  nn::GRU gru{nn::GRUOptions(32, 96).batch_first(true)};
  nn::Linear out{96, 256};
  GruImpl() { register_module("table", table), register_module("gru", gru), register_module("out", out); }
  Tensor forward(const Tensor& tokens) { return out(std::get<0>(gru(table(tokens)))); }
};
TORCH_MODULE(Gru);

nn::Linear plain_linear(int64_t in, int64_t to) { return nn::Linear(nn::LinearOptions(in, to).bias(false)); }

struct BlockImpl : nn::Module {
  int64_t heads;
  nn::LayerNorm norm, norm2;
  nn::Linear qkv, proj, up, down;
  BlockImpl(int64_t dim, int64_t n_heads)
      : heads(n_heads),
        norm(nn::LayerNormOptions({dim})),
        norm2(nn::LayerNormOptions({dim})),
        qkv(plain_linear(dim, 3 * dim)),
        proj(plain_linear(dim, dim)),
        up(dim, 4 * dim),
        down(4 * dim, dim) {
    register_module("norm", norm), register_module("norm2", norm2), register_module("qkv", qkv);
    register_module("proj", proj), register_module("up", up), register_module("down", down);
  }
  Tensor forward(const Tensor& x) {
    const std::vector<Tensor> parts = qkv(norm(x)).chunk(3, -1);
    const auto by_head = [&](const Tensor& t) { return t.unflatten(-1, {heads, -1}).transpose(1, 2); };
    const Tensor seen =
        at::scaled_dot_product_attention(by_head(parts[0]), by_head(parts[1]), by_head(parts[2]), {}, 0, true);
    const Tensor h = x + proj(seen.transpose(1, 2).flatten(2));
    return h + down(torch::gelu(up(norm2(h))));
  }
};
TORCH_MODULE(Block);

struct GptImpl : nn::Module {
  nn::Embedding table, places;
  nn::ModuleList blocks;
  nn::LayerNorm norm;
  nn::Linear out;
  GptImpl(int64_t dim, int64_t depth, int64_t heads, int64_t context)
      : table(256, dim), places(context, dim), norm(nn::LayerNormOptions({dim})), out(plain_linear(dim, 256)) {
    for (int64_t i = 0; i < depth; ++i) blocks->push_back(Block(dim, heads));
    register_module("table", table), register_module("places", places), register_module("blocks", blocks);
    register_module("norm", norm), register_module("out", out);
  }
  Tensor forward(const Tensor& tokens) {
    Tensor x = table(tokens) + places->weight;
    for (const auto& block : *blocks) x = block->as<BlockImpl>()->forward(x);
    return out(norm(x));
  }
};
TORCH_MODULE(Gpt);

}  // namespace

void add_model_rows() {
  add_model<Mlp>(
      "MLP 784-256-128-10, batch 64", [] { return Mlp(); },
      [] {
        return torch::randn({64, 784});
      },
      {64}, 10);
  const auto tokens = [](std::vector<int64_t> shape) { return [=] { return torch::randint(256, shape); }; };
  add_model<Gru>(
      "GRU 96, batch 16, 64 tokens", [] { return Gru(); }, tokens({16, 64}), {16, 64}, 256);
  add_model<Gpt>(
      "GPT 64, 2 layers, batch 8, 64 tokens", [] { return Gpt(64, 2, 4, 64); }, tokens({8, 64}), {8, 64}, 256);
  add_model<Gpt>(
      "GPT 128, 4 layers, batch 8, 256 tokens", [] { return Gpt(128, 4, 4, 256); }, tokens({8, 256}), {8, 256}, 256);
}

}  // namespace rondo::bench
