// The state of a decoder as a file: what is kept as it is, from which the prepared caches follow.
#include <algorithm>
#include <map>

#include "models/block_recurrent/decoder.h"
#include "models/block_recurrent/identity.h"
#include "nn/safetensors.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using Texts = std::map<std::string, std::string>;

void check_same_model(const Texts& found, const Texts& wanted, const std::string& path) {
  check(found.contains("decoding_state"), path, ": not a decoding state (its metadata has no \"decoding_state\")");
  check(found.at("decoding_state") == "1", path, ": decoding_state ", found.at("decoding_state"),
        " is not known to this program, which reads 1");
  for (const auto& [name, value] : wanted) {
    const auto there = found.find(name);
    check(there != found.end() && there->second == value, path, ": this decoding state is of a model with ", name, " ",
          there == found.end() ? "unknown" : there->second, ", but the model has ", name, " ", value,
          "; give the model that it was saved with, or begin without it");
  }
}

}  // namespace

// Takes a row's tensors out of a file, each checked; to the model's device.
struct Decoder::Reader {
  const SafetensorsFile& file;
  const std::string &path, prefix;
  Device device;

  Tensor take(const std::string& name, const Shape& shape, DType dtype) const {
    const Tensor& t = find(name);
    check(t.shape() == shape && t.dtype() == dtype, path, ": ", prefix, name, " is ", t.dtype(), " ", t.shape(),
          ", but the model asks for ", dtype, " ", shape);
    const bool finite = !is_float(dtype) || first_non_finite(Cpu{}, t) < 0;
    check(finite, path, ": ", prefix, name, " holds a NaN or an infinity: the file is damaged");
    return to(t, device);
  }
  // The same, where the first dimension is anything up to `most`.
  Tensor take_some(const std::string& name, int64_t most, const Shape& shape, DType dtype) const {
    const Tensor& t = find(name);
    check(t.rank() >= 1 && t.dim(0) <= most, path, ": ", prefix, name, " is ", t.dtype(), " ", t.shape(),
          ", but its first dimension is at most ", most);
    return take(name, shape.with(0, t.dim(0)), dtype);
  }
  const Tensor& find(const std::string& name) const {
    const auto found = file.tensors.find(prefix + name);
    check(found != file.tensors.end(), path, ": ", prefix, name, " is missing");
    return found->second;
  }
};

void Decoder::save(const std::string& path) const {
  std::vector<NamedTensor> all;
  for (size_t r = 0; r < rows_.size(); ++r) {
    const Row& row = rows_[r];
    const auto add = [&](const std::string& name, const Tensor& t) {
      all.push_back({"rows." + std::to_string(r) + "." + name, t, false});
    };
    add("position", tensor<int64_t>({row.position}, {1}));
    check(row.logits || row.position == 0, "Decoder: row ", r, " was fed a part of a prompt, and failed at the rest");
    const int64_t n_recent = std::min(int64_t(row.recent.size()), int64_t(2 * kRecent));
    add("recent", tensor(std::vector<int64_t>(row.recent.end() - n_recent, row.recent.end()), {n_recent}));
    if (row.logits) add("logits", logits(int64_t(r)));
    for (size_t i = 0; i < model_->layers.size(); ++i) {
      const auto rows_of = [&](const Tensor& kv, int64_t n) { return reshape(narrow(kv, 1, 0, n), {n, kv.dim(2)}); };
      const std::string layer = "." + std::to_string(i);
      if (row.before[i]) add("memory" + layer, rows_of(row.before[i], row.before[i].dim(1)));
      add("block" + layer, rows_of(narrow(blocks_[i], 0, int64_t(r), 1), row.filled));
      if (const Tensor& s = row.states[i].state) add("state" + layer, reshape(s, {s.dim(1), s.dim(2)}));
    }
  }
  Texts metadata = identity_of(*model_);
  metadata["decoding_state"] = "1";
  metadata["batch"] = std::to_string(batch());
  write_safetensors(path, all, metadata);
}

void Decoder::load_row(int64_t index, const Reader& file) {
  const BlockRecurrentConfig& c = model_->config;
  const int64_t D2 = 2 * c.dim_head, W = c.block_width, S = c.n_state_vectors();
  const DType dtype = model_->dtype;
  Row& row = at(index);
  const int64_t position = file.take("position", {1}, DType::i64).to_vector<int64_t>()[0];
  const int64_t filled = file.take_some("block.0", W, {0, D2}, dtype).dim(0);
  const auto layer = [](const char* name, size_t i) { return name + std::to_string(i); };
  Carried carried;
  for (size_t i = 0; i < model_->layers.size(); ++i) {
    if (position > filled)
      carried.memories.push_back(reshape(file.take(layer("memory.", i), {W, D2}, dtype), {1, W, D2}));
    if (model_->layers[i].attention.state_container)
      carried.states.push_back(reshape(file.take(layer("state.", i), {S, c.dim}, dtype), {1, S, c.dim}));
  }
  start_block(index, carried);
  Tensors block;
  for (size_t i = 0; i < model_->layers.size(); ++i)
    block.push_back(reshape(file.take(layer("block.", i), {filled, D2}, dtype), {1, filled, D2}));
  fill_block(index, block);
  row.position = position, row.filled = filled;
  row.recent = file.take_some("recent", int64_t(2 * kRecent), {0}, DType::i64).to_vector<int64_t>();
  const int64_t kept = std::max(filled, int64_t(row.recent.size()));
  check(position <= INT64_MAX / 2, file.path, ": ", file.prefix, "position is ", position, ", more than any text has");
  check(position >= kept, file.path, ": ", file.prefix, "position is ", position, ", but ", kept, " tokens are kept");
  check((position - filled) % W == 0, file.path, ": ", file.prefix, "position is ", position, ", but a block of ", W,
        " holds ", filled, " tokens of it");
  for (const int64_t t : row.recent)
    check(t >= 0 && t < c.num_tokens, file.path, ": ", file.prefix, "recent has token ", t, ", but the model has ",
          c.num_tokens, " tokens");
  if (position > 0) row.logits = reshape(file.take("logits", {c.num_tokens}, dtype), {1, c.num_tokens});
}

Decoder Decoder::load(const BlockRecurrentTransformer& model, const std::string& path) {
  const SafetensorsFile file = read_safetensors(path);
  check_same_model(file.metadata, identity_of(model), path);
  int64_t batch = 0;
  while (file.tensors.contains("rows." + std::to_string(batch) + ".position")) ++batch;
  check(batch >= 1, path, ": rows.0.position is missing");
  const auto said = file.metadata.find("batch");
  check(said != file.metadata.end() && said->second == std::to_string(batch), path, ": it has rows for a batch of ",
        batch, ", but its metadata say ", said == file.metadata.end() ? "nothing of a batch" : said->second);
  Decoder decoder(model, batch);
  for (int64_t r = 0; r < batch; ++r)
    decoder.load_row(r, Reader{file, path, "rows." + std::to_string(r) + ".", model.device()});
  return decoder;
}

}  // namespace rondo
