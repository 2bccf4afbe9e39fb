#include "models/block_recurrent/trainer.h"

#include <algorithm>

#include "autograd/rounded.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {

std::pair<Tensor, Tensor> inputs_and_labels(const Tensor& tokens) {
  check(tokens.rank() == 2 && tokens.dim(1) >= 2, "inputs_and_labels: tokens have shape ", tokens.shape(),
        ", but must be [batch, 2 or more]");
  const int64_t n = tokens.dim(1) - 1;
  return {narrow(tokens, 1, 0, n), narrow(tokens, 1, 1, n)};
}

double RecurrentTrainer::Result::loss() const {
  const Tensor here = to(to(losses, Device::cpu), DType::f64);
  double sum = 0;
  for (int64_t i = 0; i < here.numel(); ++i) sum += here.data<double>()[i] / double(here.numel());
  return sum;
}

RecurrentTrainer::Drops RecurrentTrainer::draw(const Tensor& tokens, const Tensor& labels, Generator& g) const {
  check(tokens.rank() == 2 && tokens.numel() > 0 && tokens.shape() == labels.shape(), "trainer: tokens have shape ",
        tokens.shape(), " and labels ", labels.shape(), ", but both must be [batch, tokens]");
  for (const double p : {xl_memories_dropout, state_dropout})
    check(p >= 0 && p <= 1, "trainer: a dropout is ", p, ", but must be from 0 to 1");
  const int64_t N = model.config.max_seq_len, segments = (tokens.dim(1) + N - 1) / N;
  Drops drops;
  for (int64_t s = 0; s < segments; ++s) {
    // Both are drawn in every segment, so that one probability does not change the other's draws.
    const bool memories = g.uniform() < xl_memories_dropout, states = g.uniform() < state_dropout;
    drops.push_back({memories, states});
  }
  return drops;
}

RecurrentTrainer::Result RecurrentTrainer::run(const Tensor& tokens, const Tensor& labels, const Carried& carried,
                                               const Drops& drops, Gradients& grads, const Tape::Ready& ready,
                                               double weight) const {
  const int64_t N = model.config.max_seq_len, n = tokens.dim(1), segments = int64_t(drops.size());
  Result result{Tensor({segments}, model.dtype, model.device()), carried};
  WeightCopies copies;
  const WeightCopies::Use once(copies);  // for all segments
  for (int64_t s = 0; s < segments; ++s) {
    if (drops[size_t(s)].memories) result.carried.memories.clear();
    if (drops[size_t(s)].states) result.carried.states.clear();

    const int64_t start = s * N, length = std::min(N, n - start);
    Tape tape(tape_options);
    BlockRecurrentTransformer::Result out = model(narrow(tokens, 1, start, length), result.carried, true);
    const Tensor loss = cross_entropy(out.logits, narrow(labels, 1, start, length), model.config.ignore_index);
    dispatch(loss.device(), [&](auto d) { copy_rows(d, loss, {0, 1}, result.losses, {s, 1}, 1, 1); });
    result.carried = detach(out.carried);
    out = {};  // let go of the logits before the gradients need room
    tape.backward(loss, weight / double(segments), grads, s + 1 == segments ? ready : Tape::Ready());
  }
  return result;
}

}  // namespace rondo
