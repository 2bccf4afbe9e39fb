// Small models, and what they say of a text read segment by segment.
#pragma once
#include "models/block_recurrent/model.h"
#include "tests/testing.h"

namespace rondo::testing {

inline BlockRecurrentTransformer make(const std::vector<int64_t>& recurrent, DType dtype, int64_t width = 4) {
  BlockRecurrentConfig c;
  c.num_tokens = 20, c.dim = 12, c.depth = 3, c.dim_head = 4, c.heads = 3;
  c.max_seq_len = std::max<int64_t>(8, width), c.block_width = width, c.num_state_vectors = 5,
  c.recurrent_layers = recurrent;
  Generator g{7, 0, 0};
  return BlockRecurrentTransformer(c, g, dtype);
}

// As small as a model with a recurrent layer can be: two blocks a segment, of two tokens.
inline BlockRecurrentTransformer make_tiny(uint64_t seed = 7) {
  BlockRecurrentConfig c;
  c.num_tokens = 20, c.dim = 8, c.depth = 1, c.dim_head = 4, c.heads = 2;
  c.max_seq_len = 4, c.block_width = 2, c.num_state_vectors = 3, c.recurrent_layers = {{1}};
  Generator g{seed, 0, 0};
  return BlockRecurrentTransformer(c, g);
}

inline Tensor random_tokens(int64_t n, uint64_t seed, int64_t num_tokens = 20) {
  Generator g{seed, 5, 0};
  std::vector<int64_t> t;
  for (int64_t i = 0; i < n; ++i) t.push_back(g.below(num_tokens));
  return tensor(t, {n});
}

// Logits [n, V] of the tokens, segment by segment.
inline Tensor full_forward(const BlockRecurrentTransformer& model, const Tensor& tokens) {
  const int64_t n = tokens.numel(), N = model.config.max_seq_len, V = model.config.num_tokens;
  const Tensor all({n, V}, model.dtype);
  Carried carried;
  for (int64_t start = 0; start < n; start += N) {
    const int64_t width = std::min(N, n - start);
    const auto r = model(reshape(narrow(tokens, 0, start, width), {1, width}), carried);
    carried = r.carried;
    std::memcpy(static_cast<char*>(all.bytes()) + size_t(start * V) * size_of(model.dtype), r.logits.bytes(),
                r.logits.n_bytes());
  }
  return all;
}

inline Tensor row(const Tensor& logits, int64_t i) { return reshape(narrow(logits, 0, i, 1), {logits.dim(1)}); }

}  // namespace rondo::testing
