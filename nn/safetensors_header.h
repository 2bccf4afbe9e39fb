// The JSON header of a safetensors file, parsed and checked apart from the data. Private to safetensors.cpp.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/shape.h"

namespace rondo {

inline constexpr uint64_t kMaxHeader = 100'000'000;

struct SafetensorsEntry {
  std::string name, dtype;
  Shape shape;  // its first Shape::kMaxRank dimensions
  uint64_t rank = 0;
  int64_t elements = 1;         // -1: more than an int64_t holds
  uint64_t begin = 0, end = 0;  // bytes of the data
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of their data
  std::map<std::string, std::string> metadata;
};

// Parses the header of a file with `data_size` bytes of data after it and checks every rule that can be checked without
// reading them. `file` stands in front of messages.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_size, const std::string& file);

}  // namespace rondo
