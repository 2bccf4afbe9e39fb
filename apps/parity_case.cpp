// Golden cases: reading them, and comparing with what they expect.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/json_error.h"
#include "apps/parity.h"
#include "nn/file.h"

namespace rondo {
namespace {

using Json = nlohmann::json;

constexpr const char* kReference = "block-recurrent-transformer-pytorch 0.3.2";

BlockRecurrentConfig model_config(const Json& json) {
  using C = BlockRecurrentConfig;
  static const std::map<std::string, int64_t C::*> numbers = {{"num_tokens", &C::num_tokens},
                                                              {"dim", &C::dim},
                                                              {"depth", &C::depth},
                                                              {"dim_head", &C::dim_head},
                                                              {"heads", &C::heads},
                                                              {"ff_mult", &C::ff_mult},
                                                              {"max_seq_len", &C::max_seq_len},
                                                              {"block_width", &C::block_width},
                                                              {"ignore_index", &C::ignore_index}};
  C c;
  for (const auto& [key, value] : json.items()) {
    if (value.is_null() || key == "use_flash_attn") continue;  // not given; another way to the same numbers
    const auto number = numbers.find(key);
    if (number != numbers.end()) {
      c.*number->second = whole<int64_t>(value, key);
    } else if (key == "num_state_vectors") {
      c.num_state_vectors = whole<int64_t>(value, key);
    } else if (key == "recurrent_layers") {
      c.recurrent_layers = value.get<std::vector<int64_t>>();
    } else if (key == "all_layers_qk_rmsnorm") {
      c.all_layers_qk_rmsnorm = value.get<bool>();
    } else {
      fail("unknown model argument ", key);
    }
  }
  c.validate();
  return c;
}

void read_config(const Json& json, GoldenCase& c) {
  const std::string reference = json.at("reference");
  check(reference == kReference, "the case follows ", reference, ", but Rondo follows ", kReference);
  c.model = model_config(json.at("model"));
  constexpr int64_t kMost = 1 << 30;
  c.segments = whole<int64_t>(json.at("segments"), "segments", 1, kMost);
  if (json.contains("partial") && !json["partial"].is_null())
    c.partial = whole<int64_t>(json["partial"], "partial", 0, kMost);
  c.f32_errors = json.at("torch_f32_max_abs_err").get<std::map<std::string, double>>();
  if (!json.contains("train") || json["train"].is_null()) return;
  const Json& train = json["train"];
  c.train_steps = whole<int64_t>(train.at("steps"), "steps", 0, kMost);
  c.optimizer.learning_rate = train.at("lr");
  c.optimizer.beta1 = train.at("betas").at(0);
  c.optimizer.beta2 = train.at("betas").at(1);
  c.optimizer.eps = train.at("eps");
  c.optimizer.clip_grad_norm = train.at("clip_grad_norm");
}

double max_abs(const std::vector<double>& x) {
  double most = 0;
  for (double v : x) most = std::max(most, std::abs(v));
  return most;
}

// The largest |a - b|, or |a - b| / |b| where that is asked for; NaN where one of them is NaN.
double max_error(const std::vector<double>& a, const std::vector<double>& b, bool relative) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    const double error = !relative || difference == 0 ? difference : difference / std::abs(b[i]);
    if (!(error <= worst)) worst = error;
    if (std::isnan(worst)) break;
  }
  return worst;
}

std::string group_of(const std::string& name) {
  if (name.starts_with("train.") || name.starts_with("generate.")) return name;
  return name.substr(0, name.find('.'));
}

double f32_error(const GoldenCase& c, const std::string& group) {
  const auto found = c.f32_errors.find(group);
  check(found != c.f32_errors.end(), c.path, "/config.json: torch_f32_max_abs_err has no ", group);
  return found->second;
}

Comparison compare(const GoldenCase& c, const std::string& name, const Tensor& computed, const Tensor& expected) {
  Comparison result{.name = name, .group = group_of(name), .error = 0, .tolerance = 0, .note = {}};
  const std::string& group = result.group;
  if (!(computed.shape() == expected.shape()) || computed.dtype() != expected.dtype()) {
    std::ostringstream note;
    note << "is " << computed.dtype() << ' ' << computed.shape() << ", but " << expected.dtype() << ' '
         << expected.shape() << " is expected";
    result.note = note.str();
    return result;
  }
  const std::vector<double> a = to(computed, DType::f64).to_vector<double>();
  const std::vector<double> b = to(expected, DType::f64).to_vector<double>();
  const bool relative = group == "loss" || group == "train.grad_norms";
  result.error = max_error(a, b, relative);
  if (group == "grad")
    result.tolerance = 1e-4 * max_abs(b) + 1e-8;
  else if (group == "loss")
    result.tolerance = 1e-6;
  else if (group == "train.losses" || group == "train.grad_norms")
    result.tolerance = 1e-4;
  else if (group == "generate.min_margin")
    result.tolerance = 10 * f32_error(c, "logits");
  else if (is_float(expected.dtype()))
    result.tolerance = 10 * f32_error(c, group);
  return result;
}

bool is_input(const std::string& name) {
  return name == "tokens" || name == "labels" || name == "generate.prime" || name == "train.tokens";
}

// Near ties may fall either way: then the continuations part, and so do the gaps.
bool greedy_is_a_tie(const GoldenCase& c, const NamedResults& computed) {
  const auto margin = c.expected.find("generate.min_margin"), greedy = c.expected.find("generate.greedy");
  const auto made = computed.find("generate.greedy");
  if (margin == c.expected.end() || greedy == c.expected.end() || made == computed.end()) return false;
  if (margin->second.numel() != 1 || margin->second.item() >= 1e-4) return false;
  return greedy->second.shape() == made->second.shape() && compare(c, "tokens", made->second, greedy->second).error > 0;
}

}  // namespace

GoldenCase read_golden_case(const std::string& directory) {
  GoldenCase c;
  c.path = directory;
  const std::string config = directory + "/config.json", text = read_file(config);
  try {
    read_config(Json::parse(text), c);
  } catch (const Error& e) {
    fail(config, ": ", e.what());
  } catch (const Json::exception& e) {
    fail(config, ": not what a golden case's is: ", json_error(e));
  }
  c.weights = read_safetensors(directory + "/weights.safetensors");
  c.expected = read_safetensors(directory + "/expected.safetensors").tensors;
  return c;
}

std::vector<std::string> ParityReport::failed() const {
  std::vector<std::string> names;
  for (const Comparison& comparison : comparisons)
    if (!comparison.holds()) names.push_back(comparison.name);
  return names;
}

double tolerance_factor(Device device) { return device == Device::cpu ? 1 : 4; }

ParityReport compare_golden_case(const GoldenCase& c, const NamedResults& computed, double factor) {
  ParityReport report;
  const bool tie = greedy_is_a_tie(c, computed);
  if (tie) report.notes.push_back("greedy continuation not compared: two logits are closer than 1e-4 on the way");
  for (const auto& [name, expected] : c.expected) {
    if (is_input(name)) continue;
    if (tie && (name == "generate.greedy" || name == "generate.min_margin")) continue;
    const auto found = computed.find(name);
    if (found != computed.end())
      report.comparisons.push_back(compare(c, name, found->second, expected));
    else
      report.comparisons.push_back({name, group_of(name), 0, 0, "is expected, but no part of this configuration"});
  }
  for (Comparison& comparison : report.comparisons) comparison.tolerance *= factor;
  for (const auto& [name, tensor] : computed)
    if (!c.expected.contains(name))
      report.comparisons.push_back({name, group_of(name), 0, 0, "is computed, but expected.safetensors lacks it"});
  return report;
}

}  // namespace rondo
