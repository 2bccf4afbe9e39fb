// The safetensors format: a JSON header and raw little-endian tensors, read strictly and written reproducibly.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "module.h"

namespace rondo {

struct SafetensorsFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Reads a whole file. Every rule of the format is checked; what breaks one is one clear line naming the file.
// F16 is read as f32, BOOL as u8, I16 and U16 as i32, U32 and U64 as i64 (values that do not fit are an error).
SafetensorsFile read_safetensors(const std::string& path);
// The same from memory; `name` stands for the file in messages.
SafetensorsFile parse_safetensors(const char* data, size_t size, const std::string& name);

// Writes tensors sorted by alignment, then name, so that equal contents are equal files; metadata {"format": "pt"} and
// what is given. The file appears whole or not at all: written beside its place, synced, renamed.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

struct LoadReport {
  std::vector<std::string> missing;     // wanted, not in the file
  std::vector<std::string> unexpected;  // in the file, not wanted
};
// Copies tensors of the file into those given, by name; dtypes are converted (f32, f64, bf16, f16 to each other),
// shapes must be equal. `strict`: missing or unexpected names are an error that lists them. A name that is loaded is
// loaded whole; on an error nothing is changed.
LoadReport load_tensors(const SafetensorsFile& file, const std::vector<NamedTensor>& into, bool strict,
                        const std::string& name);

}  // namespace rondo
