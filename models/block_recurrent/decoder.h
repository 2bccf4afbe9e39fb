// Incremental decoding, exact: keys, values and states are kept, so a token costs one pass over the weights instead of
// a forward pass over its block. Rows of a batch may stand at different places. On a GPU, a pass over as many tokens as
// one before, if few, is captured as a graph and from then on replayed. docs/inference.md says what is kept.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "../../tensor/graph.h"
#include "../../tensor/key_value_cache.h"
#include "model.h"

namespace rondo {

class Decoder {
 public:
  // `batch` empty sequences. The model must outlive the decoder, with its weights where they are.
  Decoder(const BlockRecurrentTransformer& model, int64_t batch);
  Decoder(Decoder&&) = default;  // a copy would share what is written to; fork() goes on twice
  Decoder& operator=(Decoder&&) = default;

  // Tokens may lie on any device; logits are on the model's.
  // Feeds a row as many tokens as one likes ([n] i64, n >= 1), whole blocks at a time. Returns the logits [V] of what
  // follows them.
  Tensor prefill(int64_t row, const Tensor& tokens);
  // Feeds every row its next token ([B] i64). Returns the logits [B, V] of what follows.
  Tensor step(const Tensor& tokens);
  // Feeds a row a few tokens ([n] i64, 1 <= n <= room(row)). Returns the logits [n, V] of what follows each.
  Tensor extend(int64_t row, const Tensor& tokens);
  // The same for several rows in one pass: counts[row] tokens each, 0 to room(row), one row's after the other's. With
  // up to kFewRows of them a row's logits are to the bit what it has alone.
  Tensor extend_rows(const std::vector<int64_t>& counts, const Tensor& tokens);
  // Takes back the last n tokens that the last call, an extend or extend_rows, fed: fewer than all of them.
  void rewind(int64_t row, int64_t n);

  // `copies` rows that go on from where a row is.
  Decoder fork(int64_t row, int64_t copies) const;
  // Everything kept, as a safetensors file; it appears whole or not at all. Its size does not grow with the sequence.
  void save(const std::string& path) const;
  // What `save` wrote. Throws Error with one clear line, also where another model wrote it.
  static Decoder load(const BlockRecurrentTransformer& model, const std::string& path);

  int64_t batch() const { return int64_t(rows_.size()); }
  // Tokens fed so far; how many fit into the row's block (a full one makes room for the next).
  int64_t position(int64_t row) const { return at(row).position; }
  int64_t room(int64_t row) const;
  // The logits [V] of what follows. Throws where nothing was fed yet.
  Tensor logits(int64_t row) const;
  // The last tokens fed, kRecent of them or more where there were that many.
  std::span<const int64_t> recent(int64_t row) const { return at(row).recent; }
  static constexpr size_t kRecent = 1024;
  int64_t captured() const;  // passes, so far

 private:
  // One sequence. Keys and values as they are: of the block before (1, W, 2D) per layer, where there is one; those of
  // the block so far are in blocks_. A full block is finished when the next token comes, so that it can be rewound.
  struct Row {
    Tensors before;
    std::vector<StateContainer::Prepared> states;  // per layer, empty where there is none
    int64_t filled = 0, position = 0;
    std::vector<int64_t> recent;
    Tensor logits;  // [n, V], of the tokens last fed
  };
  const Row& at(int64_t row) const;
  Row& at(int64_t row);
  void start_block(int64_t row, const Carried& carried);
  void finish_block(int64_t row);
  void fill_block(int64_t row, const Tensors& kv);
  Carried carried(int64_t row) const;
  void prefill_blocks(int64_t row, const Tensor& tokens);
  void begin_block(int64_t row, const Tensor& tokens);
  std::span<const int64_t> counts_of(int64_t row, int64_t n);
  CachePlace place_of(int64_t row, int64_t index) const;
  void find_places(std::span<const int64_t> counts);
  // What a pass reads beside weights and caches: tokens [n] i64, and where they stand.
  struct Fed {
    Tensor tokens, places;
  };
  Tensor layer(size_t index, const Tensor& x, const Tensor& places) const;
  Tensor head(const Tensor& x) const;
  Tensor pass(const Fed& fed, bool all_logits) const;
  Tensor replay(const Fed& fed);
  Tensor advance(std::span<const int64_t> counts, const Tensor& tokens, bool all_logits);
  Tensor checked(const Tensor& tokens) const;
  void fed(int64_t row, std::span<const int64_t> tokens, const Tensor& logits, int64_t filled);
  struct Reader;
  void load_row(int64_t row, const Reader& file);
  void cache_window(int64_t row, size_t layer, const Tensor& kv, int64_t first);
  void cache_state(int64_t row, size_t layer);

  const BlockRecurrentTransformer* model_;
  std::vector<Row> rows_;
  std::vector<KeyValueCache> windows_;  // per layer: the block before at rows 0..W-1, the block so far at W..2W-1
  std::vector<KeyValueCache> states_;   // per layer, S rows; empty where there is no state
  Tensors blocks_;                      // per layer: the blocks so far (batch, W, 2D)
  struct Captured {
    bool seen = false;  // a pass of so many tokens
    Graph graph;
    Fed fed;
    Tensor logits;
  };
  std::vector<Captured> captured_;  // by the number of tokens
  std::shared_ptr<MemoryPool> pool_;
  // Of the pass that goes on, kept from pass to pass: a token asks for no memory.
  std::vector<int64_t> counts_;
  std::vector<CachePlace> places_;
};

}  // namespace rondo
