#include "apps/metrics.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

namespace rondo {
namespace {

using Json = nlohmann::ordered_json;

bool keeps(const std::string& line, int64_t step, int64_t validate_every) {
  const Json j = Json::parse(line, nullptr, false);
  if (!j.is_object() || !j.contains("step") || !j["step"].is_number_integer()) return false;  // torn by a crash
  const int64_t at = j["step"];
  if (at > step) return false;
  return !j.contains("validation_bits_per_byte") || (validate_every > 0 && at % validate_every == 0);
}

// The path, when nothing is left there that does not belong.
const std::string& truncated(const std::string& path, int64_t step, int64_t validate_every) {
  if (!std::filesystem::exists(path)) return path;
  std::istringstream lines(read_file(path));
  std::string kept;
  for (std::string line; std::getline(lines, line);)
    if (keeps(line, step, validate_every)) kept += line + "\n";
  write_file(path, kept);
  return path;
}

}  // namespace

Metrics::Metrics(const std::string& path, int64_t step, int64_t validate_every)
    : file_(truncated(path, step, validate_every)) {}

void Metrics::add(const StepRecord& r) {
  file_.write(Json{{"step", r.step},
                   {"loss", r.loss},
                   {"bits_per_byte", r.bits_per_byte},
                   {"learning_rate", r.learning_rate},
                   {"grad_norm", r.grad_norm},
                   {"tokens_per_s", r.tokens_per_s},
                   {"seconds", r.seconds}}
                  .dump() +
              "\n");
}

void Metrics::add(int64_t step, const Evaluation& validation) {
  file_.write(Json{{"step", step},
                   {"validation_bits_per_byte", validation.bits_per_byte()},
                   {"validation_tokens", validation.tokens},
                   {"seconds", validation.seconds}}
                  .dump() +
              "\n");
}

}  // namespace rondo
