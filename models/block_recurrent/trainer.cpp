#include "models/block_recurrent/trainer.h"

#include <algorithm>

namespace rondo {

std::pair<Tensor, Tensor> inputs_and_labels(const Tensor& tokens) {
  check(tokens.rank() == 2 && tokens.dim(1) >= 2, "inputs_and_labels: tokens have shape ", tokens.shape(),
        ", but must be [batch, 2 or more]");
  const int64_t n = tokens.dim(1) - 1;
  return {narrow(tokens, 1, 0, n), narrow(tokens, 1, 1, n)};
}

RecurrentTrainer::Result RecurrentTrainer::operator()(const Tensor& all_tokens, const Tensor& all_labels,
                                                      const Carried& carried, Generator& g, Gradients& grads) const {
  const Tensor tokens = to(all_tokens, model.device()), labels = to(all_labels, model.device());
  check(tokens.rank() == 2 && tokens.numel() > 0 && tokens.shape() == labels.shape(), "trainer: tokens have shape ",
        tokens.shape(), " and labels ", labels.shape(), ", but both must be [batch, tokens]");
  const int64_t N = model.config.max_seq_len, n = tokens.dim(1), segments = (n + N - 1) / N;
  Result result{0, carried};
  for (int64_t s = 0; s < segments; ++s) {
    // Both are drawn in every segment, so that one probability does not change the other's draws.
    const bool drop_memories = g.uniform() < xl_memories_dropout, drop_states = g.uniform() < state_dropout;
    if (drop_memories) result.carried.memories.clear();
    if (drop_states) result.carried.states.clear();

    const int64_t start = s * N, length = std::min(N, n - start);
    Tape tape(tape_options);
    BlockRecurrentTransformer::Result out = model(narrow(tokens, 1, start, length), result.carried, true);
    const Tensor loss = cross_entropy(out.logits, narrow(labels, 1, start, length), model.config.ignore_index);
    result.loss += loss.item() / double(segments);
    result.carried = detach(out.carried);
    out = {};  // let go of the logits before the gradients need room
    tape.backward(loss, 1 / double(segments), grads);
  }
  return result;
}

}  // namespace rondo
