#include "apps/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/json_error.h"
#include "models/block_recurrent/precision.h"
#include "nn/file.h"
#include "nn/safetensors.h"

namespace rondo {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kMostSteps = 9'000'000'000'000'000;  // as many as train.steps may be

Json json_of(const Generator& g) { return {{"seed", g.seed}, {"stream", g.stream}, {"position", g.position}}; }

Generator generator_of(const Json& j, const std::string& path) {
  const auto part = [&](const char* key) { return whole<uint64_t>(j.at(key), path + ": " + key); };
  return {part("seed"), part("stream"), part("position")};
}

std::string run_json(const RunConfig& config, const RunState& state) {
  return Json{{"format", 1},
              {"step", state.step},
              {"data_generator", json_of(state.batches.generator)},
              {"dropout_generator", json_of(state.dropout)},
              {"rows", state.batches.rows},
              {"text_bytes", state.text.bytes},
              {"text_hash", state.text.hash},
              {"vocabulary_hash", state.text.vocabulary},
              {"config", to_toml(config)}}
             .dump(1) +
         "\n";
}

std::vector<NamedTensor> tensors_of(Adam& optimizer) {
  std::vector<NamedTensor> all;
  optimizer.each([&](const std::string& name, Tensor& t, bool) { all.push_back({name, t, false}); });
  return all;
}

std::vector<NamedTensor> tensors_of(const Carried& carried) {
  std::vector<NamedTensor> all;
  const auto add = [&](const char* name, const Tensors& tensors) {
    for (size_t i = 0; i < tensors.size(); ++i) all.push_back({name + std::to_string(i), tensors[i], false});
  };
  add("memories.", carried.memories);
  add("states.", carried.states);
  return all;
}

std::string name_of_step(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

// Whether training wrote it: what else somebody keeps there is not to be touched.
bool is_checkpoint(const fs::path& path) {
  std::error_code none;
  return fs::is_regular_file(path / "run.json", none) && fs::is_regular_file(path / "optimizer.safetensors", none);
}

// Keeps the newest `n` checkpoints up to this step. What cannot be removed is no reason to stop a run.
void remove_old(const fs::path& checkpoints, int64_t step, int64_t n) {
  std::vector<int64_t> old;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(checkpoints, ignored)) {
    const std::string name = entry.path().filename();
    const int64_t at = name.starts_with("step-") ? std::atoll(name.c_str() + 5) : step;
    if (at < step && name == name_of_step(at) && is_checkpoint(entry.path())) old.push_back(at);
  }
  std::sort(old.begin(), old.end());
  for (int64_t i = 0; i + n <= int64_t(old.size()); ++i)
    fs::remove_all(checkpoints / name_of_step(old[size_t(i)]), ignored);
}

// Processes that were killed while they saved left these.
void remove_torn(const fs::path& checkpoints) {
  std::vector<fs::path> torn;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(checkpoints, ignored)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(".step-") && name.ends_with(".part")) torn.push_back(entry.path());
  }
  for (const fs::path& path : torn) fs::remove_all(path, ignored);
}

void write_files(const fs::path& directory, const RunConfig& config, const RunState& state,
                 const BlockRecurrentTransformer& model, Adam& optimizer, const Tokenizer& tokenizer) {
  std::error_code error;
  fs::create_directories(directory, error);
  check(!error, "cannot create ", directory.string(), ": ", error.message());
  write_safetensors(directory / "model.safetensors", named_tensors(model));
  write_safetensors(directory / "optimizer.safetensors", tensors_of(optimizer));
  if (!state.carried.memories.empty()) write_safetensors(directory / "carried.safetensors", tensors_of(state.carried));
  if (!tokenizer.in_bytes()) write_file(directory / "vocabulary.model", tokenizer.model());
  write_file(directory / "run.json", run_json(config, state));
  sync_directory(directory);
}

// A tensor in f32, or in bf16 where `also` says so.
Tensor take(const SafetensorsFile& file, const std::string& name, const Shape& shape, const std::string& path,
            DType also = DType::f32) {
  const auto found = file.tensors.find(name);
  check(found != file.tensors.end(), path, ": ", name, " is missing");
  const Tensor& t = found->second;
  check(t.shape() == shape && (t.dtype() == DType::f32 || t.dtype() == also), path, ": ", name, " is ", t.dtype(), " ",
        t.shape(), ", but this run needs f32 ", also == DType::f32 ? "" : "or bf16 ", shape);
  return t;
}

// Memories as the model makes them: another machine may have computed in another type (compute_in).
Carried read_carried(const std::string& path, const RunConfig& config, DType computes_in) {
  const SafetensorsFile file = read_safetensors(path);
  const BlockRecurrentConfig& m = config.model;
  const int64_t batch = config.train.batch_size;
  Carried carried;
  for (int64_t i = 0; i < m.depth; ++i)
    carried.memories.push_back(
        to(take(file, "memories." + std::to_string(i), {batch, m.block_width, 2 * m.dim_head}, path, DType::bf16),
           computes_in));
  for (int64_t i = 0; i < m.n_recurrent(); ++i)
    carried.states.push_back(take(file, "states." + std::to_string(i), {batch, m.n_state_vectors(), m.dim}, path));
  return carried;
}

}  // namespace

std::string save_checkpoint(const std::string& run, const RunConfig& config, const RunState& state,
                            const BlockRecurrentTransformer& model, Adam& optimizer, const Tokenizer& tokenizer) {
  const std::string name = name_of_step(state.step);
  const fs::path checkpoints = fs::path(run) / "checkpoints", target = checkpoints / name;
  const fs::path part = checkpoints / ("." + name + ".part");
  std::error_code error;
  check(!fs::exists(target) || is_checkpoint(target), target.string(),
        ": there is something already that is no checkpoint of a run; move it away");
  remove_torn(checkpoints);
  try {
    write_files(part, config, state, model, optimizer, tokenizer);
    fs::remove_all(target, error);  // left by a crash before `latest` named it
    fs::rename(part, target, error);
    check(!error, "cannot rename ", part.string(), ": ", error.message());
  } catch (...) {
    fs::remove_all(part, error);
    throw;
  }
  sync_directory(checkpoints);
  write_file(checkpoints / "latest", name + "\n");
  if (config.train.keep_checkpoints > 0) remove_old(checkpoints, state.step, config.train.keep_checkpoints);
  return target;
}

std::string latest_checkpoint(const std::string& run) {
  const fs::path checkpoints = fs::path(run) / "checkpoints", latest = checkpoints / "latest";
  std::error_code ignored;
  if (!fs::exists(latest, ignored)) return "";
  std::string name = read_file(latest);
  while (!name.empty() && name.back() == '\n') name.pop_back();
  const bool sound = name.starts_with("step-") && name.find('/') == name.npos;
  check(sound && fs::is_directory(checkpoints / name, ignored), latest.string(), " names no checkpoint that is there");
  return checkpoints / name;
}

CheckpointInfo read_checkpoint_info(const std::string& checkpoint) {
  const std::string path = fs::path(checkpoint) / "run.json", text = read_file(path);
  CheckpointInfo info;
  std::string config;
  try {
    const Json j = Json::parse(text);
    check(j.at("format") == 1, path, ": format ", j.at("format").dump(), " is not known to this program");
    info.state.step = whole<int64_t>(j.at("step"), path + ": step", 0, kMostSteps);
    info.state.batches.generator = generator_of(j.at("data_generator"), path);
    for (const Json& row : j.at("rows")) info.state.batches.rows.push_back(whole<int64_t>(row, path + ": a row", 0));
    info.state.dropout = generator_of(j.at("dropout_generator"), path);
    info.state.text = {whole<int64_t>(j.at("text_bytes"), path + ": text_bytes", 0),
                       whole<uint64_t>(j.at("text_hash"), path + ": text_hash"),
                       whole<uint64_t>(j.value("vocabulary_hash", Json(0)), path + ": vocabulary_hash")};
    config = j.at("config");
  } catch (const Json::exception& e) {
    fail(path, ": not the state of a run: ", json_error(e));
  }
  apply_toml(info.config, config, path + " (config)");
  info.config.validate();
  const auto& rows = info.state.batches.rows;
  check(int64_t(rows.size()) == info.config.train.batch_size, path, ": ", rows.size(),
        " rows, but train.batch_size is ", info.config.train.batch_size);
  return info;
}

void load_checkpoint(const std::string& checkpoint, const RunConfig& config, BlockRecurrentTransformer& model,
                     Adam& optimizer, RunState& state) {
  const auto load = [&](const char* name, const std::vector<NamedTensor>& into) {
    const std::string path = fs::path(checkpoint) / name;
    load_tensors(read_safetensors(path), into, true, path);
  };
  load("model.safetensors", named_tensors(model));
  load("optimizer.safetensors", tensors_of(optimizer));
  const std::string carried = fs::path(checkpoint) / "carried.safetensors";
  state.carried = {};
  if (config.train.order == "document" && state.step > 0)
    state.carried = to(read_carried(carried, config, computes_in(model)), model.device());
}

}  // namespace rondo
