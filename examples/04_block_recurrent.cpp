// 4. What recurrence is for. A document names a key in its first block of 16 tokens and asks for it at the end of every
// later block. A layer's window reaches 15 tokens back, two layers' 30: beyond that, only the recurrent states can know
// the answer.
// Trained on documents of 8 blocks, tested on 64 blocks, with the states carried from block to block and with them
// dropped.
//
//   04_block_recurrent [SEED] [STEPS]      exit code 0 when carried >= 0.95 and dropped <= 0.15 on blocks 3 to 15
#include <rondo/rondo.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

using namespace rondo;

namespace {

constexpr int64_t kWidth = 16, kBlocks = 8, kTestBlocks = 64, kDocuments = 512;
// Token ids: 1 KEY, 2 QUERY, then 16 values; 16 fillers from 20 on. 0 and 19 are not used.
constexpr int64_t kKey = 1, kQuery = 2, kValue = 3, kValues = 16, kFiller = 20, kFillers = 16;

// Documents of random filler with "KEY value" somewhere in block 0 and QUERY at the end of each later block. The label
// at a QUERY is the value, everything else is ignored; the answer is never an input.
std::pair<Tensor, Tensor> documents(int64_t n, int64_t blocks, Generator& g) {
  const int64_t length = blocks * kWidth;
  std::vector<int64_t> tokens, labels(size_t(n * length), -100);
  for (int64_t i = 0; i < n * length; ++i) tokens.push_back(kFiller + g.below(kFillers));
  for (int64_t d = 0; d < n; ++d) {
    const int64_t value = kValue + g.below(kValues), at = d * length + g.below(kWidth - 3);
    tokens[size_t(at)] = kKey, tokens[size_t(at + 1)] = value;
    for (int64_t block = 1; block < blocks; ++block) {
      const int64_t last = d * length + (block + 1) * kWidth - 1;
      tokens[size_t(last)] = kQuery, labels[size_t(last)] = value;
    }
  }
  return {tensor(tokens, {n, length}), tensor(labels, {n, length})};
}

BlockRecurrentConfig config() {
  BlockRecurrentConfig c;
  c.num_tokens = kFiller + kFillers;
  c.dim = 64, c.depth = 2, c.dim_head = 32, c.heads = 2;
  c.max_seq_len = kBlocks * kWidth, c.block_width = kWidth, c.num_state_vectors = 8, c.recurrent_layers = {{2}};
  // With the reference's defaults this task stays at chance; docs/tour.md says what these three change.
  c.init = "0.4", c.qk_norm_scale = 8, c.ema_beta_init = {{-2, 0.1}};
  return c;
}

// The share of right answers in each block, over the test documents.
std::vector<double> accuracy(const BlockRecurrentTransformer& model, const Tensor& tokens, const Tensor& labels,
                             bool carry_states) {
  std::vector<double> by_block;
  Carried carried;
  for (int64_t block = 0; block < kTestBlocks; ++block) {
    if (!carry_states) carried.states.clear();
    const auto r = model(narrow(tokens, 1, block * kWidth, kWidth), carried, true);
    carried = r.carried;
    int64_t right = 0;
    for (int64_t d = 0; d < kDocuments; ++d) {
      const float* logits = r.logits.data<float>() + ((d + 1) * kWidth - 1) * model.config.num_tokens;
      const int64_t answer = std::max_element(logits, logits + model.config.num_tokens) - logits;
      right += answer == labels.data<int64_t>()[d * kTestBlocks * kWidth + (block + 1) * kWidth - 1];
    }
    by_block.push_back(double(right) / kDocuments);
  }
  return by_block;
}

double mean(const std::vector<double>& v, int first, int last) {
  double total = 0;
  for (int i = first; i <= last; ++i) total += v[size_t(i)];
  return total / (last - first + 1);
}

void train(const BlockRecurrentTransformer& model, int steps, Generator& g) {
  Adam adam(parameters(model), {.learning_rate = 1e-3, .clip_grad_norm = 0.5});
  TrainingStep train_step({model}, adam);
  int solved = 0;
  double recent = 0;
  for (int step = 1; step <= steps && solved < 2; ++step) {
    const auto [tokens, labels] = documents(32, kBlocks, g);
    recent += train_step(tokens, labels, {}, g).loss() / 50;
    if (step % 50) continue;
    std::printf("step %3d  loss %.4f\n", step, recent), std::fflush(stdout);
    solved = recent < 0.02 ? solved + 1 : 0;  // twice in a row: learned, also for the rare documents
    recent = 0;
  }
}

void draw(const std::vector<double>& carried, const std::vector<double>& dropped) {
  std::printf("\nshare of right answers       states carried                     states dropped (chance: 0.06)\n");
  const int groups[][2] = {{1, 1}, {2, 2}, {3, 7}, {8, 15}, {16, 31}, {32, 63}};
  for (const auto& [first, last] : groups) {
    const double a = mean(carried, first, last), b = mean(dropped, first, last);
    const auto bar = [](double x) { return std::string(size_t(x * 28 + 0.5), '#'); };
    const std::string name = first == last ? std::to_string(first) : std::to_string(first) + "-" + std::to_string(last);
    std::printf("  block %-6s %15.3f  %-28s %5.3f  %s\n", name.c_str(), a, bar(a).c_str(), b, bar(b).c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto start = std::chrono::steady_clock::now();
  Generator g{.seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0};
  const BlockRecurrentTransformer model(config(), g);
  train(model, argc > 2 ? std::atoi(argv[2]) : 600, g);

  const auto [tokens, labels] = documents(kDocuments, kTestBlocks, g);
  const std::vector<double> carried = accuracy(model, tokens, labels, true),
                            dropped = accuracy(model, tokens, labels, false);
  draw(carried, dropped);
  const double a = mean(carried, 3, 15), b = mean(dropped, 3, 15);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("\nblocks 3-15: carried %.3f, dropped %.3f, %.0f seconds\n", a, b, seconds.count());
  return a >= 0.95 && b <= 0.15 ? 0 : 1;
}
