// The safetensors parser under libFuzzer. Build and run:
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I.
//   tests/fuzz/safetensors.cpp
//     nn/{file,safetensors,safetensors_header,utf8}.cpp tensor/{tensor,allocator,parallel}.cpp tensor/cpu/memory.cpp
//     -isystem /usr/include/eigen3 -o safetensors_fuzz && ./safetensors_fuzz -max_total_time=60
#include <algorithm>
#include <cstring>
#include <string>

#include "nn/safetensors.h"

namespace {

void parse(const char* data, size_t size) {
  try {
    rondo::parse_safetensors(data, size, "f");
  } catch (const rondo::Error& e) {
    if (!std::strncmp(e.what(), "f: ", 3) && !std::strchr(e.what(), '\n')) return;
    __builtin_trap();  // not one line that names the file
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const char* const bytes = reinterpret_cast<const char*>(data);
  parse(bytes, size);
  // Once more with a length of the header that fits, so that the JSON is reached: the first byte says where data begin.
  if (size == 0) return 0;
  const uint64_t n = size - 1 - std::min<size_t>(data[0], size - 1);
  std::string file(reinterpret_cast<const char*>(&n), 8);
  file.append(bytes + 1, size - 1);
  parse(file.data(), file.size());
  return 0;
}
