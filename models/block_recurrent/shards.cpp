#include "models/block_recurrent/shards.h"

#include <algorithm>

#include "models/block_recurrent/precision.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

// At once: rows of activations that a shard has at least, for its products; and the numbers of the model's widest
// activations up to which its ops are small.
constexpr int64_t kRows = 128, kSmall = 200'000;
// In turn: rows and numbers of widest activations that a shard has at least: enough for all threads to work as fast as
// on more.
constexpr int64_t kManyRows = 2048, kLarge = 1'300'000;

// The shards' tensors, row after row of the batch. What one of them lacks, all lack.
template <class F>
Tensors joined(int64_t shards, const F& of) {
  Tensors whole;
  for (size_t i = 0; i < of(0).size(); ++i) {
    Tensors parts;
    for (int64_t s = 0; s < shards; ++s) parts.push_back(of(s)[i]);
    whole.push_back(parts[0] ? concat(parts, 0) : parts[0]);
  }
  return whole;
}

}  // namespace

Shards::Cut Shards::cut(const RecurrentTrainer& trainer, const Tensor& tokens, const Tensor& labels,
                        int64_t micro_batch_size) {
  const BlockRecurrentConfig& c = trainer.model.config;
  const int64_t batch = tokens.dim(0);
  const bool wanted = micro_batch_size > 0 && micro_batch_size < batch;
  const Cut cut =
      wanted ? Cut{(batch + micro_batch_size - 1) / micro_batch_size, true} : worthwhile(trainer.model, tokens);
  if (cut.shards < 2 || trainer.tape_options.check_finite) return {};
  if (tokens.dtype() != DType::i64 || labels.dtype() != DType::i64) return {};
  // A label that does not count is no token either.
  const auto known = [&](const Tensor& t) {
    return t.device() != Device::cpu || first_token_outside(t, c.num_tokens, 0) < 0;
  };
  return known(tokens) && known(labels) ? cut : Cut{};
}

Shards::Cut Shards::worthwhile(const BlockRecurrentTransformer& model, const Tensor& tokens) {
  if (model.device() != Device::cpu) return {};
  const BlockRecurrentConfig& c = model.config;
  const int64_t batch = tokens.dim(0), length = std::min(c.max_seq_len, tokens.dim(1));
  const int64_t widest =
      std::max({c.dim, model.layers[0].feed_forward.in.weight.dim(0), c.heads * c.dim_head, c.num_tokens});
  const bool in_turn = batch * length * widest > kSmall;
  // Weights are prepared and their gradients stored once a shard: a larger part of the work where products are fast.
  const int64_t many = computes_in(model) == DType::bf16 ? 2 : 1;
  const int64_t at_least = in_turn ? many * std::max(kManyRows, kLarge / widest) : kRows;
  return {batch / ((at_least + length - 1) / length), in_turn};
}

RecurrentTrainer::Result Shards::run(const Cut& cut, const RecurrentTrainer& trainer, const Tensor& tokens,
                                     const Tensor& labels, const Carried& carried, const RecurrentTrainer::Drops& drops,
                                     Gradients& grads, const Tape::Ready& ready) {
  const int64_t batch = tokens.dim(0), n = cut.shards;
  check(n >= 1 && n <= batch, "shards: a batch of ", batch, " rows cannot be cut into ", n);
  check_carried(trainer.model.config, batch, carried);
  if (int64_t(results_.size()) < n) results_.resize(size_t(n));
  const Device device = trainer.model.device();
  const auto run_one = [&](int64_t i, Gradients& into, const Tape::Ready& last = {}) {
    RecurrentTrainer::Result& result = results_[size_t(i)];
    result = {};  // by the thread that made it, as a rule
    const int64_t first = batch * i / n, rows = batch * (i + 1) / n - first;
    const double weight = double(rows) / double(batch);
    const auto share = [&](const Tensor& t) { return narrow(t, 0, first, rows); };
    result = trainer.run(share(tokens), share(labels), mapped(carried, share), drops, into, last, weight);
    dispatch(device, [&](auto d) { scale_into(d, weight, result.losses); });
  };
  if (cut.in_turn) {
    for (int64_t i = 0; i < n; ++i) run_one(i, grads, i == n - 1 ? ready : Tape::Ready());
  } else {
    parallel_.run(
        n, [&](int64_t i, Gradients& into) { run_one(i, into); }, grads);
  }

  RecurrentTrainer::Result result = {zeros_like(results_[0].losses), {}};
  dispatch(device, [&](auto d) {
    for (int64_t i = 0; i < n; ++i) add_into(d, results_[size_t(i)].losses, result.losses);
  });
  result.carried.memories =
      joined(n, [&](int64_t i) -> const Tensors& { return results_[size_t(i)].carried.memories; });
  result.carried.states = joined(n, [&](int64_t i) -> const Tensors& { return results_[size_t(i)].carried.states; });
  if (cut.in_turn) results_.clear();
  return result;
}

}  // namespace rondo
