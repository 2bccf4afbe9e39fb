// Reading and writing safetensors files, and loading them into a model. The header's rules are in
// safetensors_header.cpp.
#include "nn/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/rounded.h"
#include "nn/file.h"
#include "nn/safetensors_header.h"
#include "nn/safetensors_types.h"
#include "nn/utf8.h"
#include "tensor/dispatch.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data are little-endian");

// read(at, to, n) delivers n bytes of the file from `at` on.
template <class Read>
Tensor read_tensor(const SafetensorsEntry& entry, uint64_t data_at, const Read& read, const std::string& file) {
  const SafetensorsType& type = *safetensors_type(entry.dtype);
  Tensor t(entry.shape, type.dtype);
  const size_t n_bytes = size_t(entry.end - entry.begin);
  if (!type.convert) {
    if (n_bytes) read(data_at + entry.begin, t.bytes(), n_bytes);
    return t;
  }
  std::string raw(n_bytes, '\0');
  read(data_at + entry.begin, raw.data(), n_bytes);
  const int64_t misfit = type.convert(raw.data(), entry.elements, t.bytes());
  check(misfit < 0, file, "tensor ", in_quotes(entry.name), " of ", entry.dtype, ": element ", misfit, " does not fit ",
        type.dtype);
  return t;
}

template <class Read>
SafetensorsFile read_all(uint64_t size, const Read& read, const std::string& name) {
  const std::string file = name + ": ";
  check(size >= 8, file, "the file has ", size, " bytes, but the length of the header takes 8");
  uint64_t n = 0;
  read(0, &n, sizeof n);
  check(n <= kMaxHeader, file, "the header has ", n, " bytes, but ", kMaxHeader,
        " is the most; is this a safetensors file?");
  check(n <= size - 8, file, "the header ends at byte ", n + 8, ", but the file has ", size, " bytes");
  std::string json(n, '\0');
  read(8, json.data(), n);
  SafetensorsHeader header = parse_safetensors_header(json, size - 8 - n, file);
  SafetensorsFile all;
  all.metadata = std::move(header.metadata);
  for (SafetensorsEntry& e : header.entries) {
    Tensor t = read_tensor(e, 8 + n, read, file);
    all.tensors.emplace(std::move(e.name), std::move(t));
  }
  return all;
}

// JSON of a text, in quotes; `what` is the text's part in the file.
std::string json_string(const std::string& text, const char* what, const std::string& path) {
  check(first_not_utf8(text) < 0, path, ": ", what, " ", in_quotes(text), " is not UTF-8");
  return nlohmann::json(text).dump();
}

// The header, padded so that the data after it are aligned to 8 bytes.
std::string make_header(const std::string& path, const std::vector<const NamedTensor*>& tensors,
                        std::map<std::string, std::string> metadata) {
  metadata.emplace("format", "pt");
  std::string json = "{\"__metadata__\":{", comma;
  for (const auto& [key, text] : metadata) {
    json += comma + json_string(key, "the metadata's key", path) + ":" + json_string(text, "the metadata's text", path);
    comma = ",";
  }
  json += "}";
  size_t place = 0;
  for (const NamedTensor* t : tensors) {
    json += "," + json_string(t->name, "the name", path) + ":{\"dtype\":\"" +
            std::string(safetensors_name(t->tensor.dtype())) + "\",\"shape\":[";
    comma.clear();
    for (const int64_t d : t->tensor.shape()) json += comma + std::to_string(d), comma = ",";
    const size_t end = place + t->tensor.n_bytes();
    json += "],\"data_offsets\":[" + std::to_string(place) + "," + std::to_string(end) + "]}";
    place = end;
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  check(json.size() <= kMaxHeader, path, ": the header would have ", json.size(), " bytes, but ", kMaxHeader,
        " is the most");
  return json;
}

// "2 tensors are missing: "a", "b"", with at most ten names.
std::string listed(const std::vector<std::string>& names, const char* what) {
  constexpr size_t kMost = 10;
  std::string text = std::to_string(names.size()) + (names.size() == 1 ? " tensor is " : " tensors are ") + what + ":";
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i ? ", " : " ") + in_quotes(names[i]);
  if (names.size() > kMost) text += " and " + std::to_string(names.size() - kMost) + " more";
  return text;
}

void check_loadable(const NamedTensor& wanted, const Tensor& found, const std::string& file) {
  const Tensor& t = wanted.tensor;
  check(found.shape() == t.shape(), file, ": tensor ", in_quotes(wanted.name), " has shape ", found.shape(), ", but ",
        t.shape(), " is wanted");
  check(found.dtype() == t.dtype() || (is_float(found.dtype()) && is_float(t.dtype())), file, ": tensor ",
        in_quotes(wanted.name), " is ", found.dtype(), ", but ", t.dtype(), " is wanted");
}

}  // namespace

SafetensorsFile read_safetensors(const std::string& path) {
  const FileReader file(path);
  return read_all(
      file.size(), [&](uint64_t at, void* to, size_t n) { file.read(at, to, n); }, path);
}

SafetensorsFile parse_safetensors(const char* data, size_t size, const std::string& name) {
  return read_all(
      size, [&](uint64_t at, void* to, size_t n) { std::memcpy(to, data + at, n); }, name);
}

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const NamedTensor*> sorted;
  std::set<std::string_view> names;
  for (const NamedTensor& t : tensors) {
    check(bool(t.tensor), path, ": tensor ", in_quotes(t.name), " is empty");
    check(t.name != "__metadata__", path, ": no tensor can have the name \"__metadata__\"");
    check(names.insert(t.name).second, path, ": two tensors have the name ", in_quotes(t.name));
    sorted.push_back(&t);
  }
  std::sort(sorted.begin(), sorted.end(), [](const NamedTensor* a, const NamedTensor* b) {
    const size_t x = size_of(a->tensor.dtype()), y = size_of(b->tensor.dtype());
    return x != y ? x > y : a->name < b->name;
  });
  const std::string header = make_header(path, sorted, metadata);
  const uint64_t n = header.size();
  FileWriter file(path);
  file.write(&n, sizeof n);
  file.write(header.data(), header.size());
  for (const NamedTensor* t : sorted) {
    const Tensor here = to(t->tensor, Device::cpu);
    file.write(here.bytes(), here.n_bytes());
  }
  file.commit();
}

LoadReport load_tensors(const SafetensorsFile& file, const std::vector<NamedTensor>& into, bool strict,
                        const std::string& name) {
  check(!Tape::any_recorded(), name, ": a tape with recorded ops is alive; play it (backward) before weights change");
  check(!WeightCopies::in_use(), name, ": WeightCopies are in use, which new weights would make wrong");
  LoadReport report;
  std::set<std::string_view> wanted;
  for (const NamedTensor& t : into) {
    check(wanted.insert(t.name).second, name, ": two tensors to load have the name ", t.name);
    if (!file.tensors.contains(t.name)) report.missing.push_back(t.name);
  }
  for (const auto& [key, tensor] : file.tensors)
    if (!wanted.contains(key)) report.unexpected.push_back(key);
  if (strict && !(report.missing.empty() && report.unexpected.empty()))
    fail(name, ": ", report.missing.empty() ? "" : listed(report.missing, "missing"),
         report.missing.empty() || report.unexpected.empty() ? "" : "; ",
         report.unexpected.empty() ? "" : listed(report.unexpected, "unexpected"));
  for (const NamedTensor& t : into)
    if (const auto found = file.tensors.find(t.name); found != file.tensors.end())
      check_loadable(t, found->second, name);
  for (const NamedTensor& t : into)
    if (const auto found = file.tensors.find(t.name); found != file.tensors.end()) {
      const Tensor here = to(to(found->second, t.tensor.dtype()), t.tensor.device());
      dispatch(t.tensor.device(), [&](auto device) { copy(device, here, t.tensor); });
    }
  return report;
}

}  // namespace rondo
