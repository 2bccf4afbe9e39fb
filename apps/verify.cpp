// rondo verify: parity with a golden case of the PyTorch reference, as a table of errors against their bounds.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "apps/commands.h"
#include "apps/json_line.h"
#include "apps/parity.h"
#include "apps/usage.h"
#include "nn/safetensors.h"

namespace rondo {
namespace {

constexpr const char* kDump = "verify_dump";  // in the metadata of a file that --dump wrote

struct Options {
  std::string path, dump;
  Device device = Device::cpu;
  bool json = false;
};

// The comparisons of one kind, of which the one nearest to its bound (or furthest beyond it) is shown.
struct Row {
  std::string group;
  int tensors = 0, failed = 0;
  Comparison worst;
};

// What comes out of 0 / 0 here is an exact match with no room to err.
double share_of_bound(const Comparison& c) {
  if (!c.note.empty()) return INFINITY;
  return c.error == 0 ? 0 : c.error / c.tolerance;
}

std::vector<Row> rows_of(const ParityReport& report) {
  std::vector<Row> rows;
  for (const Comparison& c : report.comparisons) {
    auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.group == c.group; });
    if (row == rows.end()) row = rows.insert(rows.end(), {c.group, 0, 0, c});
    ++row->tensors;
    row->failed += !c.holds();
    if (!(share_of_bound(c) <= share_of_bound(row->worst))) row->worst = c;
  }
  return rows;
}

void print_table(const ParityReport& report) {
  std::printf("%-20s %7s %12s %12s   %s\n", "what", "tensors", "error", "at most", "worst tensor");
  for (const Row& r : rows_of(report))
    std::printf("%-20s %7d %12.2e %12.2e   %s%s\n", r.group.c_str(), r.tensors, r.worst.error, r.worst.tolerance,
                r.worst.name.c_str(), r.failed ? "  FAILED" : "");
  for (const Comparison& c : report.comparisons) {
    if (c.holds()) continue;
    if (c.note.empty())
      std::printf("FAILED %s: error %.3e, at most %.3e\n", c.name.c_str(), c.error, c.tolerance);
    else
      std::printf("FAILED %s: %s\n", c.name.c_str(), c.note.c_str());
  }
  for (const std::string& note : report.notes) std::printf("%s\n", note.c_str());
  if (report.failed().empty()) std::printf("all %zu tensors are within their bounds\n", report.comparisons.size());
}

void print_json(const GoldenCase& c, const ParityReport& report) {
  nlohmann::ordered_json groups = nlohmann::ordered_json::object();
  for (const Row& r : rows_of(report))
    groups[r.group] = {{"tensors", r.tensors},
                       {"failed", r.failed},
                       {"error", r.worst.error},
                       {"tolerance", r.worst.tolerance},
                       {"worst", r.worst.name}};
  const std::vector<std::string> failed = report.failed();
  const nlohmann::ordered_json all{
      {"case", c.path},   {"holds", failed.empty()}, {"tensors", report.comparisons.size()},
      {"failed", failed}, {"groups", groups},        {"notes", report.notes}};
  std::fputs(json_line(all).c_str(), stdout);
}

void write_dump(const std::string& path, const NamedResults& computed) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : computed) tensors.push_back({name, tensor, false});
  write_safetensors(path, tensors, {{kDump, "1"}});
}

void run(const Options& options) {
  check_usable(options.device);
  if (const std::string& path = options.dump; !path.empty())
    check_replaceable(path, "dump", "--dump",
                      [&] { check(read_safetensors(path).metadata.contains(kDump), "no dump"); });
  const GoldenCase c = read_golden_case(options.path);
  const NamedResults computed = compute_golden_case(c, options.device);
  if (!options.dump.empty()) write_dump(options.dump, computed);
  const ParityReport report = compare_golden_case(c, computed, tolerance_factor(options.device));
  if (options.json)
    print_json(c, report);
  else
    print_table(report);
  const std::vector<std::string> failed = report.failed();
  std::string names;
  for (const std::string& name : failed) names += (names.empty() ? "" : ", ") + name;
  check(failed.empty(), options.path, ": ", failed.size(), " of ", report.comparisons.size(),
        " tensors are beyond their bounds: ", names);
}

}  // namespace

void add_verify(CLI::App& program) {
  Command command(program, "verify", "Compare with what the PyTorch reference computed");
  Options& options = command.run<Options>(run);
  command.required("CASE_DIR", options.path, "A golden case: config.json, weights and expected.safetensors");
  command.text("--dump", options.dump, "Write everything computed to this safetensors file");
  command.device(options.device);
  command.flag("--json", options.json, "Print one JSON object");
}

}  // namespace rondo
