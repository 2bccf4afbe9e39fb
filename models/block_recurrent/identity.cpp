#include "models/block_recurrent/identity.h"

#include <algorithm>
#include <cstring>
#include <sstream>

namespace rondo {
namespace {

// Tells one set of weights from another: FNV-1a over their bytes, eight at a time.
std::string fingerprint(const BlockRecurrentTransformer& model) {
  uint64_t hash = 14695981039346656037u;
  for (const NamedTensor& t : named_tensors(model)) {
    const Tensor here = to(t.tensor, Device::cpu);
    const auto* bytes = static_cast<const char*>(here.bytes());
    for (size_t i = 0; i < here.n_bytes(); i += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, bytes + i, std::min(sizeof word, here.n_bytes() - i));
      hash = (hash ^ word) * 1099511628211u;
      hash ^= hash >> 32;
    }
  }
  std::ostringstream text;
  text << std::hex << hash;
  return text.str();
}

}  // namespace

std::map<std::string, std::string> identity_of(const BlockRecurrentTransformer& model) {
  const BlockRecurrentConfig& c = model.config;
  std::string layers;
  for (const int64_t layer : c.recurrent()) layers += (layers.empty() ? "" : ", ") + std::to_string(layer);
  std::ostringstream dtype, scale;
  dtype << model.dtype, scale << c.qk_norm_scale;
  return {{"num_tokens", std::to_string(c.num_tokens)},
          {"dim", std::to_string(c.dim)},
          {"depth", std::to_string(c.depth)},
          {"dim_head", std::to_string(c.dim_head)},
          {"heads", std::to_string(c.heads)},
          {"block_width", std::to_string(c.block_width)},
          {"num_state_vectors", std::to_string(c.n_state_vectors())},
          {"recurrent_layers", "[" + layers + "]"},
          {"qk_norm_scale", scale.str()},
          {"dtype", dtype.str()},
          {"weights", fingerprint(model)}};
}

}  // namespace rondo
