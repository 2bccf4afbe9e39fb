#include "models/block_recurrent/shards.h"

#include <algorithm>

#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

// Rows of activations that a shard has at least, for its products; and the numbers of the model's widest activations up
// to which its ops are small.
constexpr int64_t kRows = 128, kSmall = 200'000;

// Rows first .. first + n - 1 of the batch, of every tensor that is there.
Tensors rows_of(const Tensors& tensors, int64_t first, int64_t n) {
  Tensors some;
  for (const Tensor& t : tensors) some.push_back(t ? narrow(t, 0, first, n) : t);
  return some;
}

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

int64_t Shards::worthwhile(const RecurrentTrainer& trainer, const Tensor& tokens, const Tensor& labels) {
  const BlockRecurrentTransformer& model = trainer.model;
  const BlockRecurrentConfig& c = model.config;
  for (const Device device : {tokens.device(), labels.device(), model.device()})
    if (device != Device::cpu) return 1;
  const int64_t batch = tokens.dim(0), length = std::min(c.max_seq_len, tokens.dim(1));
  const int64_t widest =
      std::max({c.dim, model.layers[0].feed_forward.in.weight.dim(0), c.heads * c.dim_head, c.num_tokens});
  const int64_t shards = batch / ((kRows + length - 1) / length);
  if (batch * length * widest > kSmall || shards < 2 || trainer.tape_options.check_finite) return 1;
  if (tokens.dtype() != DType::i64 || labels.dtype() != DType::i64) return 1;
  // A label that does not count is no token either.
  const auto known = [&](const Tensor& t) { return first_token_outside(t, c.num_tokens, 0) < 0; };
  return known(tokens) && known(labels) ? shards : 1;
}

RecurrentTrainer::Result Shards::run(int64_t n, const RecurrentTrainer& trainer, const Tensor& tokens,
                                     const Tensor& labels, const Carried& carried, const RecurrentTrainer::Drops& drops,
                                     const std::vector<NamedTensor>& parameters, Gradients& grads) {
  const int64_t batch = tokens.dim(0);
  check(n >= 1 && n <= batch, "shards: a batch of ", batch, " rows cannot be cut into ", n);
  check_carried(trainer.model.config, batch, carried);
  while (int64_t(shards_.size()) < n) shards_.push_back(std::make_unique<Shard>());
  const auto first_row = [&](int64_t i) { return batch * i / n; };
  const auto weight = [&](int64_t i) { return double(first_row(i + 1) - first_row(i)) / double(batch); };
  parallel_for(n, [&](int64_t i) {
    Shard& shard = *shards_[size_t(i)];
    const MemoryPool::Use use(shard.pool);
    shard.grads.clear(), shard.result = {};  // by the thread that made them, as a rule: their memory is its own
    const int64_t first = first_row(i), rows = first_row(i + 1) - first;
    const Carried before = {rows_of(carried.memories, first, rows), rows_of(carried.states, first, rows)};
    shard.result = trainer.run(narrow(tokens, 0, first, rows), narrow(labels, 0, first, rows), before, drops,
                               shard.grads, {}, weight(i));
    scale_into(Cpu{}, weight(i), shard.result.losses);
  });
  parallel_for(int64_t(parameters.size()), [&](int64_t p) {
    const Tensor& parameter = parameters[size_t(p)].tensor;
    const Tensor sum = shards_[0]->grads.own(parameter);
    for (int64_t i = 1; sum && i < n; ++i) add_into(Cpu{}, shards_[size_t(i)]->grads[parameter], sum);
  });
  for (const NamedTensor& p : parameters)
    if (Tensor sum = shards_[0]->grads.take(p.tensor)) grads.add(p.tensor, std::move(sum));

  const auto result_of = [&](int64_t i) -> RecurrentTrainer::Result& { return shards_[size_t(i)]->result; };
  RecurrentTrainer::Result result = {zeros_like(result_of(0).losses), {}};
  for (int64_t i = 0; i < n; ++i) add_into(Cpu{}, result_of(i).losses, result.losses);
  result.carried.memories = joined(n, [&](int64_t i) -> const Tensors& { return result_of(i).carried.memories; });
  result.carried.states = joined(n, [&](int64_t i) -> const Tensors& { return result_of(i).carried.states; });
  return result;
}

}  // namespace rondo
