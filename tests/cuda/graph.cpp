// Graphs on the emulation, which sees what a GPU would not tell: memory that is gone, memory of the host, and who asked
// for what.
#include "tensor/graph.h"

#include <array>

#include "autograd/ops.h"
#include "cuda/emulation/emulation.h"
#include "models/block_recurrent/decoder.h"
#include "models/block_recurrent/precision.h"
#include "models/block_recurrent/training_step.h"
#include "tests/cuda/limit.h"
#include "tests/decoding.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

std::shared_ptr<MemoryPool> new_pool() { return std::make_shared<MemoryPool>(Device::cuda); }

// What the emulation reports.
template <class F>
std::string report_of(F&& f) {
  try {
    f();
  } catch (const emulation::Error& e) {
    return e.what();
  } catch (const Error& e) {
    return e.what();
  }
  return "(no report)";
}
bool contains(const std::string& text, const char* part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("graph: done when it is replayed, with what its inputs hold then") {
  const Tensor x = to(randn({3, 4}), Device::cuda), w = to(randn({3, 4}, DType::f64, 2), Device::cuda);
  Tensor y;
  const Graph graph = Graph::capture(new_pool(), [&] {
    const Tensor once = mul(x, w);
    y = add(mul(once, once), x);
  });
  CHECK(std::isnan(values(to(y, Device::cpu))[0]));  // nothing was done yet
  for (uint64_t seed : {5, 6, 7}) {
    const Tensor now = randn({3, 4}, DType::f64, seed);
    assign(now, x);
    const Tensor once = mul(x, w), expected = add(mul(once, once), x);
    graph.replay();
    CHECK(same_bits(to(y, Device::cpu), to(expected, Device::cpu)));
  }
}

TEST_CASE("graph: nobody else gets its memory, until it and its tensors are gone") {
  const int64_t before = memory_stats(Device::cuda).current_bytes;
  const Tensor x = full({1000}, 2, DType::f64, Device::cuda);
  Tensor y;
  {
    Graph graph = Graph::capture(new_pool(), [&] { y = exp(exp(mul(x, x))); });
    const int64_t used = memory_stats(Device::cuda).current_bytes - before;
    CHECK(used >= 3 * 8000);
    CHECK(used <= 4 * 8000);  // what an op has done with serves the next
    graph.replay();
    const Tensor others[] = {zeros_like(x), zeros_like(x), zeros_like(x)};
    graph.replay();
    for (const Tensor& t : others) CHECK(values(to(t, Device::cpu))[999] == 0);
  }
  CHECK(memory_stats(Device::cuda).current_bytes == before + 2 * 8000);
  CHECK(values(to(y, Device::cpu))[0] == std::exp(std::exp(4)));
  y = {};
  CHECK(memory_stats(Device::cuda).current_bytes == before + 8000);
}

TEST_CASE("graph: what cannot be captured is reported, and all is as before") {
  const Tensor x = full({3}, 2, DType::f64, Device::cuda);
  const int64_t before = memory_stats(Device::cuda).current_bytes;
  const auto captured = [&](auto&& f) { return report_of([&] { Graph::capture(new_pool(), f); }); };
  CHECK(captured([&] { mul(x, x).to_vector<double>(); }) ==
        "Graph: a copy from or to the host's memory cannot be captured");
  CHECK(captured([&] { to(randn({3}), Device::cuda); }) ==
        "Graph: a copy from or to the host's memory cannot be captured");
  float on_host;
  CHECK(captured([&] { cudaMemcpyAsync(&on_host, x.bytes(), 4, cudaMemcpyDeviceToHost, nullptr); }) ==
        "a copy from or to the host's memory cannot be captured");
  CHECK(captured([&] { cudaStreamSynchronize(nullptr) == cudaSuccess ? void() : fail("it waits"); }) == "it waits");
  CHECK(contains(captured([&] { captured([] {}) == "(no report)" ? void() : fail("within"); }), "within"));
  CHECK(report_of([] { Graph::capture(std::make_shared<MemoryPool>(Device::cpu), [] {}); }) ==
        "Graph: work on cpu is done at once; only a GPU's is captured");
  CHECK(memory_stats(Device::cuda).current_bytes == before);
  CHECK(mul(x, x).to_vector<double>()[0] == 4);  // done, not written down
  CHECK(captured([&] { mul(x, x); }) == "(no report)");
}

TEST_CASE("graph: memory that was freed after the capture is reported") {
  Tensor x = full({3}, 2, DType::f64, Device::cuda), y = full({3}, 2, DType::f64, Device::cuda), kept;
  const Graph graph = Graph::capture(new_pool(), [&] { kept = mul(x, y); });
  graph.replay();
  x = {};
  CHECK(contains(report_of([&] { graph.replay(); }), "uses memory that was freed since"));
  x = full({3}, 2, DType::f64, Device::cuda);  // perhaps at the same place
  CHECK(contains(report_of([&] { graph.replay(); }), "uses memory that was freed since"));
}

TEST_CASE("training step: a captured one is a handful of calls, and asks for no memory") {
  BlockRecurrentTransformer model = make_tiny();
  model.to(Device::cuda);
  Adam adam(parameters(model), {});
  TrainingStep step({model}, adam);
  Generator g;
  const Tensor tokens = reshape(random_tokens(2 * 8, 1), {2, 8});
  const auto one = [&] {
    const int64_t before = emulation::submitted();
    step(tokens, tokens, {}, g);
    return emulation::submitted() - before;
  };
  CHECK(one() > 100);
  one();
  const int64_t requests = memory_stats(Device::cuda).system_requests;
  CHECK(one() == 3);  // tokens, labels, the graph
  CHECK(memory_stats(Device::cuda).system_requests == requests);
}

TEST_CASE("training step: out of memory while it is captured") {
  const auto train = [](bool limited, bool narrow) {
    BlockRecurrentTransformer model = make_tiny();
    model.to(Device::cuda);
    if (narrow) compute_in(model, DType::bf16);
    Adam adam(parameters(model), {});
    TrainingStep step({model}, adam);
    Generator g;
    const Tensor tokens = reshape(random_tokens(2 * 8, 1), {2, 8});
    for (int i = 0; i < 4; ++i) {
      if (limited) {
        const Limit limit(2000);
        const Generator before = g;
        const std::string error = error_of([&] { step(tokens, tokens, {}, g); });
        if (i < 2) {  // the first step; its capture
          CHECK_MESSAGE(error.starts_with("out of memory on cuda: "), error);
          CHECK(g == before);
          CHECK(step.captured() == 0);
        } else {
          CHECK(error == "(no error)");
          continue;
        }
      }
      step(tokens, tokens, {}, g);
    }
    CHECK(step.captured() == 1);
    std::vector<double> numbers;
    for (const NamedTensor& t : named_tensors(model))
      for (double v : values(to(t.tensor, Device::cpu))) numbers.push_back(v);
    return numbers;
  };
  for (const bool narrow : {false, true}) CHECK(train(true, narrow) == train(false, narrow));
}

TEST_CASE("decoder: a captured pass has the bits of one that is not, and is a handful of calls") {
  BlockRecurrentTransformer model = make({1, 2}, DType::f32);
  model.to(Device::cuda);
  Decoder decoder(model, 2);
  decoder.prefill(1, random_tokens(7, 1));  // the rows stand at different places, and cross blocks at different times
  const auto logits_of = [](const Decoder& of, int64_t row) { return to(of.logits(row), Device::cpu); };
  // Both rows in one pass, beside each in a fork, which has captured nothing. Says how many calls the pass took.
  const auto feed = [&](std::array<int64_t, 2> counts, uint64_t seed) {
    const Tensor tokens = random_tokens(counts[0] + counts[1], seed);
    Tensor expected[2];
    for (int64_t row = 0, first = 0; row < 2; first += counts[size_t(row++)]) {
      Decoder alone = decoder.fork(row, 1);
      if (const int64_t n = counts[size_t(row)]) alone.extend(0, narrow(tokens, 0, first, n));
      expected[row] = logits_of(alone, 0);
    }
    const int64_t before = emulation::submitted();
    decoder.extend_rows({counts[0], counts[1]}, tokens);
    const int64_t calls = emulation::submitted() - before;
    for (int64_t row : {0, 1}) CHECK(same_bits(logits_of(decoder, row), expected[row]));
    return calls;
  };
  CHECK(feed({1, 1}, 2) > 20);
  CHECK(decoder.captured() == 0);
  feed({1, 1}, 3);
  CHECK(decoder.captured() == 1);
  int64_t handful = 0;
  // Tokens, places, the graph, a copy of the logits, and of it a row's; perhaps what marks fresh memory. In the others
  // a block is finished.
  for (uint64_t seed = 4; seed < 24; ++seed) handful += feed({1, 1}, seed) < 10;
  CHECK(handful == 10);
  CHECK(decoder.captured() == 1);
  for (uint64_t seed = 24; seed < 30; ++seed) {  // as many tokens, but of one row; and taken back
    const int64_t n = std::min<int64_t>(2, decoder.room(0));
    feed({n, 0}, seed);
    decoder.rewind(0, n - 1);
    feed({0, std::min<int64_t>(2, decoder.room(1))}, seed);
  }
  CHECK(decoder.captured() == 2);  // one token, two tokens
  CHECK(error_of([&] {
          decoder.step(tensor<int64_t>({3, 20}, {2}));
        }) == "Decoder: the tokens hold 20 at index 1, but the model has 20 tokens");
  feed({1, 1}, 30);
}

TEST_CASE("decoder: out of memory while a pass is captured") {
  BlockRecurrentTransformer model = make_tiny();
  model.to(Device::cuda);
  Decoder decoder(model, 1), other(model, 1);
  const Tensor tokens = random_tokens(4, 1);
  for (int64_t i = 0; i < 4; ++i) {
    const Tensor next = narrow(tokens, 0, i, 1), expected = other.fork(0, 1).step(next);
    other.step(next);
    if (i == 1) {
      const Limit limit(100);
      CHECK(error_of([&] { decoder.step(next); }).starts_with("out of memory on cuda: "));
      CHECK(decoder.captured() == 0);
    }
    CHECK(same_bits(to(decoder.step(next), Device::cpu), to(expected, Device::cpu)));
  }
  CHECK(decoder.captured() == 1);
}

}  // namespace rondo::testing
