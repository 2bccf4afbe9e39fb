#include "apps/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numbers>
#include <sstream>

#include "nn/file.h"

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

void truncate_to(const std::string& path, int64_t step, int64_t validate_every) {
  std::istringstream lines(read_file(path));
  std::string kept;
  for (std::string line; std::getline(lines, line);)
    if (keeps(line, step, validate_every)) kept += line + "\n";
  write_file(path, kept);
}

}  // namespace

double StepRecord::bits_per_byte() const { return loss / std::numbers::ln2; }

Metrics::Metrics(std::string path, int64_t step, int64_t validate_every) : path_(std::move(path)) {
  if (std::filesystem::exists(path_)) truncate_to(path_, step, validate_every);
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  check(file_ >= 0, "cannot write ", path_, ": ", std::strerror(errno));
}

Metrics::~Metrics() { ::close(file_); }

void Metrics::add(const StepRecord& r) {
  write(Json{{"step", r.step},
             {"loss", r.loss},
             {"bits_per_byte", r.bits_per_byte()},
             {"learning_rate", r.learning_rate},
             {"grad_norm", r.grad_norm},
             {"tokens_per_s", r.tokens_per_s},
             {"seconds", r.seconds}}
            .dump());
}

void Metrics::add(int64_t step, const Evaluation& validation) {
  write(Json{{"step", step},
             {"validation_bits_per_byte", validation.bits_per_byte()},
             {"validation_tokens", validation.tokens},
             {"seconds", validation.seconds}}
            .dump());
}

void Metrics::sync() {
  const bool written = ::fsync(file_) == 0;
  check(written, "cannot write ", path_, ": ", std::strerror(errno));
}

void Metrics::write(const std::string& line) {
  const std::string text = line + "\n";
  const ssize_t n = ::write(file_, text.data(), text.size());
  check(n == ssize_t(text.size()), "cannot write ", path_, ": ", n < 0 ? std::strerror(errno) : "no space left");
}

}  // namespace rondo
