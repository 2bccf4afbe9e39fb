// rondo info: how many parameters a model has and where, the shapes of its tensors, and the memory they take.
#include <algorithm>
#include <cstdio>
#include <sstream>

#include "apps/commands.h"
#include "apps/inspect.h"
#include "apps/json_line.h"

namespace rondo {
namespace {

struct Options {
  std::string path;
  bool json = false;
};

// "layers.2.0.state_container.init_state" is in the part "layers.2 state container".
std::string part_of(const std::string& name) {
  if (!name.starts_with("layers.")) return name.substr(0, name.find('.'));
  const size_t end = name.find('.', 7);
  const std::string layer = name.substr(0, end), rest = name.substr(end + 1);
  if (rest.starts_with("1.")) return layer + " feed-forward";
  return layer + (rest.starts_with("0.state_container.") ? " state container" : " attention");
}

struct Counts {
  int64_t parameters = 0, bytes = 0;  // elements that are trained; bytes of all, with the buffers
  std::vector<std::pair<std::string, int64_t>> parts;
};

Counts count(const std::vector<NamedTensor>& tensors) {
  Counts counts;
  for (const NamedTensor& t : tensors) {
    counts.bytes += int64_t(t.tensor.n_bytes());
    if (!t.is_parameter) continue;
    counts.parameters += t.tensor.numel();
    const std::string part = part_of(t.name);
    if (counts.parts.empty() || counts.parts.back().first != part) {
      const auto before =
          std::find_if(counts.parts.begin(), counts.parts.end(), [&](auto& p) { return p.first == part; });
      if (before != counts.parts.end()) {
        before->second += t.tensor.numel();
        continue;
      }
      counts.parts.push_back({part, 0});
    }
    counts.parts.back().second += t.tensor.numel();
  }
  return counts;
}

std::string shape_text(const Shape& shape) {
  std::ostringstream text;
  text << shape;
  return text.str();
}

void print_text(const std::vector<NamedTensor>& tensors, const Counts& counts) {
  std::printf("%lld parameters\n", static_cast<long long>(counts.parameters));
  for (const auto& [part, n] : counts.parts) std::printf("  %-28s %12lld\n", part.c_str(), static_cast<long long>(n));
  const double mib_each = double(sizeof(float)) / (1 << 20);
  std::printf("memory: weights %.1f MiB, gradients %.1f MiB, moments of Adam %.1f MiB\n",
              double(counts.bytes) / (1 << 20), double(counts.parameters) * mib_each,
              2 * double(counts.parameters) * mib_each);
  std::printf("tensors:\n");
  for (const NamedTensor& t : tensors)
    std::printf("  %-60s %16s %12lld%s\n", t.name.c_str(), shape_text(t.tensor.shape()).c_str(),
                static_cast<long long>(t.tensor.numel()), t.is_parameter ? "" : "  (not trained)");
}

void print_json(const std::vector<NamedTensor>& tensors, const Counts& counts) {
  nlohmann::ordered_json parts = nlohmann::ordered_json::object(), shapes = parts;
  for (const auto& [part, n] : counts.parts) parts[part] = n;
  for (const NamedTensor& t : tensors)
    shapes[t.name] = std::vector<int64_t>(t.tensor.shape().begin(), t.tensor.shape().end());
  const int64_t size = sizeof(float);
  const nlohmann::ordered_json all{{"parameters", counts.parameters},
                                   {"weights_bytes", counts.bytes},
                                   {"gradients_bytes", counts.parameters * size},
                                   {"moments_bytes", 2 * counts.parameters * size},
                                   {"parts", parts},
                                   {"shapes", shapes}};
  std::fputs(json_line(all).c_str(), stdout);
}

void run(const Options& options) {
  const std::vector<NamedTensor> tensors = named_tensors(model_at(options.path));
  if (options.json)
    print_json(tensors, count(tensors));
  else
    print_text(tensors, count(tensors));
}

}  // namespace

void add_info(CLI::App& program) {
  Command command(program, "info", "Parameters, shapes and memory of a model");
  Options& options = command.run<Options>(run);
  command.required("RUN_OR_CHECKPOINT|CONFIG", options.path, "A run, a checkpoint, or a configuration (TOML)");
  command.flag("--json", options.json, "Print one JSON object");
}

}  // namespace rondo
