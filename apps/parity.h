// Parity with the PyTorch reference: a golden case holds weights and what the reference computes from them (the files
// are described in tests/goldens/README.md); here the same is computed by Rondo and compared.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "models/block_recurrent/config.h"
#include "nn/optimizer.h"
#include "nn/safetensors.h"

namespace rondo {

using NamedResults = std::map<std::string, Tensor>;

struct GoldenCase {
  std::string path;
  BlockRecurrentConfig model;
  int64_t segments = 0;
  int64_t partial = 0;      // tokens of the partial segments; 0: none
  int64_t train_steps = 0;  // 0: none
  OptimizerConfig optimizer;
  std::map<std::string, double> f32_errors;  // by group: how far PyTorch's own f32 run is from the truth
  SafetensorsFile weights;
  NamedResults expected;
};

// Reads a case; throws Error with one clear line, also where it follows another version of the reference than 0.3.2.
GoldenCase read_golden_case(const std::string& directory);

// Everything a case expects, under the same names, shapes and dtypes (inputs are copied), computed on a device.
NamedResults compute_golden_case(const GoldenCase& c, Device device = Device::cpu);

struct Comparison {
  std::string name, group;
  double error = 0, tolerance = 0;
  std::string note;  // why it could not be compared
  bool holds() const { return note.empty() && error <= tolerance; }
};
struct ParityReport {
  std::vector<Comparison> comparisons;  // one for each name that is no input
  std::vector<std::string> notes;       // what was left out, and why
  std::vector<std::string> failed() const;
};
// Of the bounds: 1 for the CPU, 4 for a GPU, which adds up in another order.
double tolerance_factor(Device device);
// Compares with the bounds of tests/goldens/README.md, times a factor.
ParityReport compare_golden_case(const GoldenCase& c, const NamedResults& computed, double factor = 1);

}  // namespace rondo
