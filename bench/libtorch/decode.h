// Greedy decoding in LibTorch, in two ways.
#pragma once
#include "bench/libtorch/model.h"

namespace libtorch {

// Continues tokens [B, n]; returns the next tokens [B].
class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual Tensor next(const Tensor& tokens) = 0;
};

// The reference's way: for every token, the whole segment so far again.
class SegmentDecoder : public Decoder {
 public:
  explicit SegmentDecoder(Model model) : model_(std::move(model)) {}
  Tensor next(const Tensor& tokens) override;

 private:
  Model model_;
  Tensor segment_;  // [B, n]
  Carried carried_;
};

// With keys and values kept, as users write it by hand: a token costs one pass over the weights.
class CachedDecoder : public Decoder {
 public:
  CachedDecoder(Model model, int64_t batch);
  Tensor next(const Tensor& tokens) override;

 private:
  // Of `rotated` and `v` rows 0..W-1 are the block before, W..2W-1 the block so far: row r has position r.
  struct Cache {
    Tensor rotated, v;  // [B, 2W, D]; rotated: keys, normalised and rotated
    Tensor raw_k;       // [B, W, D]; keys of this block as they came, for the state's write
    StateContainerImpl::Prepared state;
    Tensor state_keys;  // normalised
  };
  Tensor attend_to(size_t layer, const Tensor& h);
  void prepare_state(size_t layer, const Tensor& state);
  void finish_block();

  Model model_;
  std::vector<Cache> caches_;
  int64_t filled_ = 0;
  bool has_memory_ = false;
};

}  // namespace libtorch
