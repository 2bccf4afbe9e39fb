// Every configuration key with its place, and the text of values.
#include "apps/config_keys.h"

#include <charconv>
#include <numeric>

namespace rondo {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

std::string text_of(int64_t x) { return std::to_string(x); }

std::string text_of(double x) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, x).ptr;
  std::string text(buffer, end);
  return text.find_first_of(".en") == text.npos ? text + ".0" : text;  // 1 would read back as an integer
}

std::string text_of(const std::string& s) {
  std::string text = "\"";
  for (const unsigned char c : s) {
    if (c == '"' || c == '\\') {
      text += '\\';
      text += char(c);
    } else if (c < 0x20 || c == 0x7f) {
      const char* digits = "0123456789abcdef";
      text += std::string("\\u00") + digits[c >> 4] + digits[c & 15];
    } else {
      text += char(c);
    }
  }
  return text + '"';
}

template <class List>
std::string list_text(const List& list) {
  std::string text = "[";
  for (const auto& x : list) text += (text.size() > 1 ? ", " : "") + text_of(x);
  return text + "]";
}

// Levenshtein's distance.
int edit_distance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = std::exchange(row[0], int(i) + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const int replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j + 1] + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::vector<ConfigKey> config_keys(RunConfig& c) {
  return {
      {"model", "num_tokens", &c.model.num_tokens},
      {"model", "dim", &c.model.dim},
      {"model", "depth", &c.model.depth},
      {"model", "dim_head", &c.model.dim_head},
      {"model", "heads", &c.model.heads},
      {"model", "ff_mult", &c.model.ff_mult},
      {"model", "max_seq_len", &c.model.max_seq_len},
      {"model", "block_width", &c.model.block_width},
      {"model", "num_state_vectors", &c.model.num_state_vectors},
      {"model", "recurrent_layers", &c.model.recurrent_layers},
      {"model", "all_layers_qk_rmsnorm", &c.model.all_layers_qk_rmsnorm},
      {"model", "ignore_index", &c.model.ignore_index},
      {"model", "init", &c.model.init},
      {"model", "qk_norm_scale", &c.model.qk_norm_scale},
      {"model", "ema_beta_init", &c.model.ema_beta_init},
      {"data", "files", &c.data.files},
      {"data", "vocabulary", &c.data.vocabulary},
      {"data", "validation_fraction", &c.data.validation_fraction},
      {"data", "binary", &c.data.binary},
      {"train", "steps", &c.train.steps},
      {"train", "batch_size", &c.train.batch_size},
      {"train", "segments", &c.train.segments},
      {"train", "order", &c.train.order},
      {"train", "jump_every", &c.train.jump_every},
      {"train", "seed", &c.train.seed},
      {"train", "dtype", &c.train.dtype},
      {"train", "clip_grad_norm", &c.train.clip_grad_norm},
      {"train", "xl_memories_dropout", &c.train.xl_memories_dropout},
      {"train", "state_dropout", &c.train.state_dropout},
      {"train", "checkpoint_every", &c.train.checkpoint_every},
      {"train", "keep_checkpoints", &c.train.keep_checkpoints},
      {"train", "validate_every", &c.train.validate_every},
      {"train", "validation_segments", &c.train.validation_segments},
      {"train", "check_finite", &c.train.check_finite},
      {"optimizer", "name", &c.optimizer_name},
      {"optimizer", "learning_rate", &c.optimizer.learning_rate},
      {"optimizer", "beta1", &c.optimizer.beta1},
      {"optimizer", "beta2", &c.optimizer.beta2},
      {"optimizer", "eps", &c.optimizer.eps},
      {"optimizer", "weight_decay", &c.optimizer.weight_decay},
      {"optimizer", "decay_all", &c.optimizer.decay_all},
      {"schedule", "shape", &c.schedule.shape},
      {"schedule", "warmup_steps", &c.schedule.warmup_steps},
      {"schedule", "decay_steps", &c.schedule.decay_steps},
      {"schedule", "final_share", &c.schedule.final_share},
      {"runtime", "threads", &c.runtime.threads},
      {"runtime", "device", &c.runtime.device},
      {"runtime", "graphs", &c.runtime.graphs},
      {"runtime", "micro_batch_size", &c.runtime.micro_batch_size},
      {"runtime", "tf32", &c.runtime.tf32},
  };
}

std::string value_text(const ConfigPlace& place) {
  return std::visit(
      Overloaded{[](bool* x) -> std::string { return *x ? "true" : "false"; },
                 [](std::vector<std::string>* x) { return list_text(*x); },
                 [](std::optional<int64_t>* x) { return text_of(x->value_or(0)); },
                 [](std::optional<std::vector<int64_t>>* x) { return list_text(x->value_or(std::vector<int64_t>{})); },
                 [](std::optional<std::array<double, 2>>* x) { return *x ? list_text(**x) : std::string("[]"); },
                 [](auto* x) { return text_of(*x); }},
      place);
}

std::string wanted_text(const ConfigPlace& place) {
  constexpr const char* texts[] = {"an integer",        "a number",   "true or false",      "a string",
                                   "a list of strings", "an integer", "a list of integers", "a list [mean, std]"};
  static_assert(std::size(texts) == std::variant_size_v<ConfigPlace>);
  return texts[place.index()];
}

void fail_unknown_key(const std::string& where, const std::string& section, const std::string& name) {
  RunConfig config;
  std::string nearest;
  int best = INT32_MAX;
  for (const ConfigKey& key : config_keys(config)) {
    const bool begins = !name.empty() && (key.name.starts_with(name) || name.starts_with(key.name));
    const int distance = (begins ? 1 : 2 * edit_distance(name, key.name)) + (section == key.section ? 0 : 4);
    if (distance < best) nearest = key.section + "." + key.name;
    best = std::min(best, distance);
  }
  fail(where, ": unknown key ", section, ".", name, "; did you mean ", nearest, "?");
}

}  // namespace rondo
