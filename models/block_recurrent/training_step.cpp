#include "models/block_recurrent/training_step.h"

#include <algorithm>
#include <optional>

#include "nn/gradient_mean.h"

namespace rondo {

// What a graph was captured for, and where it finds what comes in.
struct TrainingStep::Variant {
  std::vector<int64_t> key;
  Graph graph = {};
  Tensor tokens = {}, labels = {};
  Carried carried = {};
  Result result = {};
};

namespace {

// Everything that decides which kernels a step runs: shapes, and what is there of memories and states.
std::vector<int64_t> key_of(const Tensor& tokens, const Tensor& labels, const Carried& carried,
                            const RecurrentTrainer::Drops& drops) {
  std::vector<int64_t> key;
  const auto add = [&](const Tensor& t) {
    key.push_back(t ? t.rank() : -1);
    for (int i = 0; t && i < t.rank(); ++i) key.push_back(t.dim(i));
  };
  add(tokens), add(labels);
  for (const Tensors* some : {&carried.memories, &carried.states}) {
    key.push_back(int64_t(some->size()));
    for (const Tensor& t : *some) add(t);
  }
  for (const RecurrentTrainer::Drop& d : drops) key.push_back(d.memories + 2 * d.states);
  return key;
}

void assign(const Tensors& from, const Tensors& into) {
  for (size_t i = 0; i < from.size(); ++i)
    if (from[i]) rondo::assign(from[i], into[i]);
}

}  // namespace

TrainingStep::TrainingStep(const RecurrentTrainer& trainer, Adam& adam, bool graphs, Communicator* ranks,
                           int64_t micro_batch_size)
    : trainer_(trainer),
      adam_(adam),
      graphs_(graphs && trainer.model.device() == Device::cuda),
      ranks_(ranks),
      micro_batch_size_(micro_batch_size),
      shards_(adam.parameters()) {
  check(micro_batch_size >= 0, "training step: micro_batch_size is ", micro_batch_size, ", but must be at least 0");
  check(!ranks || trainer.model.device() == Device::cuda, "training step: several ranks need the device cuda, not ",
        trainer.model.device());
  if (trainer.tape_options.check_finite) graphs_ = false;  // it reads every result
  if (graphs_) pool_ = std::make_shared<MemoryPool>(Device::cuda);
}
TrainingStep::~TrainingStep() = default;

int64_t TrainingStep::captured() const {
  return std::count_if(variants_.begin(), variants_.end(), [](const auto& v) { return bool(v->graph); });
}

TrainingStep::Result TrainingStep::operator()(const Tensor& tokens, const Tensor& labels, const Carried& given,
                                              Generator& g) {
  Generator drawn = g;
  Drops drops = trainer_.draw(tokens, labels, drawn);
  Carried carried = given;
  if (std::exchange(drops[0].memories, false)) carried.memories.clear();
  if (std::exchange(drops[0].states, false)) carried.states.clear();
  Result result = step(tokens, labels, carried, drops);
  g = drawn;
  return result;
}

TrainingStep::Result TrainingStep::step(const Tensor& tokens, const Tensor& labels, const Carried& carried,
                                        const Drops& drops) {
  if (!graphs_) return run(tokens, labels, carried, drops);
  std::vector<int64_t> key = key_of(tokens, labels, carried, drops);
  const auto known = std::find_if(variants_.begin(), variants_.end(), [&](const auto& v) { return v->key == key; });
  const bool is_new = known == variants_.end();
  if (is_new || !sound(tokens, labels)) {  // where they are not sound, it throws, or leaves the batch whole
    Result result = run(tokens, labels, carried, drops);
    if (is_new && variants_.size() < kMostVariants)
      variants_.push_back(std::make_unique<Variant>(Variant{.key = std::move(key)}));
    return result;
  }
  Variant& v = **known;
  if (!v.graph) capture(v, tokens, carried, drops);
  rondo::assign(tokens, v.tokens);
  rondo::assign(labels, v.labels);
  assign(carried.memories, v.carried.memories);
  assign(carried.states, v.carried.states);
  v.graph.replay();
  return v.result;
}

TrainingStep::Result TrainingStep::run(const Tensor& tokens, const Tensor& labels, const Carried& carried,
                                       const Drops& drops) {
  grads_.clear();
  std::optional<GradientMean> mean;
  Tape::Ready ready;
  if (ranks_) {
    mean.emplace(*ranks_, grads_);
    ready = [&](const Tensor& parameter) { mean->ready(parameter); };
  }
  const Shards::Cut cut = Shards::cut(trainer_, tokens, labels, micro_batch_size_);
  std::optional<WeightCopies::Use> copies(std::in_place, copies_);  // until the optimizer changes the weights
  Result result{cut.shards == 1 ? trainer_.run(tokens, labels, carried, drops, grads_, ready)
                                : shards_.run(cut, trainer_, tokens, labels, carried, drops, grads_, ready),
                {}};
  copies.reset();
  if (mean) mean->finish(adam_.parameters(), result.losses);
  result.norm = adam_.step(grads_);
  return result;
}

void TrainingStep::capture(Variant& v, const Tensor& tokens, const Carried& carried, const Drops& drops) {
  // The pool takes the place of what steps used so far.
  grads_.clear();
  release_cached_memory(Device::cuda);
  Variant made{.key = v.key};
  made.tokens = Tensor(tokens.shape(), DType::i64, Device::cuda), made.labels = empty_like(made.tokens);
  made.carried = mapped(carried, [](const Tensor& t) { return Tensor(t.shape(), t.dtype(), Device::cuda); });
  made.graph = Graph::capture(pool_, [&] { made.result = run(made.tokens, made.labels, made.carried, drops); });
  grads_.clear();
  v = std::move(made);
}

bool TrainingStep::sound(const Tensor& tokens, const Tensor& labels) const {
  const BlockRecurrentConfig& c = trainer_.model.config;
  const auto holds = [&](const Tensor& t, int64_t also) {
    return t.device() != Device::cpu || first_token_outside(t, c.num_tokens, also) < 0;
  };
  const bool in_parts = micro_batch_size_ > 0 && micro_batch_size_ < tokens.dim(0);  // where all labels must count
  return holds(tokens, 0) && holds(labels, in_parts ? 0 : c.ignore_index);
}

}  // namespace rondo
