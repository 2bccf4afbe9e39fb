// The header is read as a stream of events: nothing recurses into nested brackets, and duplicate keys are seen.
#include "nn/safetensors_header.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>
#include <unordered_set>

#include "nn/safetensors_types.h"
#include "nn/utf8.h"

namespace rondo {
namespace {

constexpr const char* kMetadata = "__metadata__";
constexpr std::string_view kFields[] = {"dtype", "shape", "data_offsets"};  // of a tensor

// Takes the events of nlohmann's parser; `place_` is the object or list that the parser is in.
class Events {
 public:
  Events(SafetensorsHeader& header, const std::string& file) : header_(header), file_(file) {}

  bool null() { return place_ == Place::names && key_ == kMetadata ? true : wrong(); }
  bool boolean(bool) { return wrong(); }
  bool number_integer(int64_t) { return wrong(); }  // comes for negative numbers alone
  bool number_float(double, const std::string&) { return wrong(); }
  bool binary(nlohmann::json::binary_t&) { return wrong(); }

  bool number_unsigned(uint64_t x) {
    SafetensorsEntry* const entry = header_.entries.empty() ? nullptr : &header_.entries.back();
    if (place_ == Place::shape)
      add_dimension(*entry, x);
    else if (place_ == Place::offsets && n_offsets_ < 2)
      (n_offsets_++ ? entry->end : entry->begin) = x;
    else
      wrong();
    return true;
  }

  bool string(std::string& text) {
    if (place_ == Place::metadata)
      header_.metadata[key_] = text;
    else if (place_ == Place::tensor && key_ == "dtype")
      header_.entries.back().dtype = text;
    else
      wrong();
    return true;
  }

  bool key(std::string& k) {
    key_ = k;
    if (place_ == Place::tensor) {
      const size_t field = size_t(std::find(std::begin(kFields), std::end(kFields), k) - kFields);
      if (field == std::size(kFields)) fail(file_, tensor(), " has an unknown field ", in_quotes(k));
      if (has_[field]) fail(file_, tensor(), " has two fields ", in_quotes(k));
      has_[field] = true;
    } else if (place_ == Place::names) {
      if (!names_.insert(k).second) fail(file_, "the header has the name ", in_quotes(k), " twice");
    } else if (header_.metadata.contains(k)) {
      fail(file_, kMetadata, " has the name ", in_quotes(k), " twice");
    }
    return true;
  }

  bool start_object(size_t) {
    if (place_ == Place::file) {
      place_ = Place::names;
    } else if (place_ == Place::names && key_ == kMetadata) {
      place_ = Place::metadata;
    } else if (place_ == Place::names) {
      place_ = Place::tensor;
      header_.entries.emplace_back().name = key_;
      std::fill(std::begin(has_), std::end(has_), false);
      n_offsets_ = 0;
    } else {
      wrong();
    }
    return true;
  }

  bool end_object() {
    if (place_ == Place::tensor)
      for (size_t i = 0; i < std::size(kFields); ++i)
        if (!has_[i]) fail(file_, tensor(), " has no ", kFields[i]);
    place_ = place_ == Place::names ? Place::file : Place::names;
    return true;
  }

  bool start_array(size_t) {
    if (place_ == Place::tensor && key_ == "shape")
      place_ = Place::shape;
    else if (place_ == Place::tensor && key_ == "data_offsets")
      place_ = Place::offsets;
    else
      wrong();
    return true;
  }

  bool end_array() {
    if (place_ == Place::offsets && n_offsets_ < 2) wrong();
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    fail(file_, "the header is not JSON: error near byte ", position);
  }

 private:
  enum class Place { file, names, metadata, tensor, shape, offsets };

  std::string tensor() const { return "tensor " + in_quotes(header_.entries.back().name); }

  static void add_dimension(SafetensorsEntry& entry, uint64_t d) {
    constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
    if (entry.rank++ < uint64_t(Shape::kMaxRank)) entry.shape.push_back(int64_t(std::min(d, kMax)));
    if (entry.elements >= 0 && (d > kMax || __builtin_mul_overflow(entry.elements, int64_t(d), &entry.elements)))
      entry.elements = -1;
  }

  // The value does not belong where it stands.
  bool wrong() const {
    switch (place_) {
      case Place::file:
        fail(file_, "the header is not a JSON object");
      case Place::names:
        fail(file_, key_ == kMetadata ? kMetadata : "tensor " + in_quotes(key_), " is not an object");
      case Place::metadata:
        fail(file_, kMetadata, " has a value that is not a string, of ", in_quotes(key_));
      case Place::tensor:
        fail(file_, tensor(), ": ", key_, key_ == "dtype" ? " is not a string" : " is not a list");
      case Place::shape:
        fail(file_, tensor(), ": shape is not a list of whole numbers >= 0");
      case Place::offsets:
        break;
    }
    fail(file_, tensor(), ": data_offsets is not a list of two whole numbers >= 0");
  }

  SafetensorsHeader& header_;
  const std::string& file_;
  Place place_ = Place::file;
  std::string key_;
  bool has_[std::size(kFields)] = {};
  int n_offsets_ = 0;
  std::unordered_set<std::string> names_;
};

std::string shape_text(const SafetensorsEntry& e) {
  std::ostringstream text;
  text << e.shape;
  std::string all = text.str();
  if (e.rank > uint64_t(Shape::kMaxRank)) all.insert(all.size() - 1, ", ...");
  return all;
}

void check_places(const std::vector<SafetensorsEntry>& entries, uint64_t data_size, const std::string& file) {
  uint64_t place = 0;
  for (const SafetensorsEntry& e : entries) {
    const auto tensor = [&] { return "tensor " + in_quotes(e.name); };
    if (e.begin != place)
      fail(file, tensor(), " begins at byte ", e.begin, " of the data, but what is before it ends at byte ", place);
    if (e.end < e.begin) fail(file, tensor(), " begins at byte ", e.begin, " of the data, but ends at byte ", e.end);
    const SafetensorsType* const type = safetensors_type(e.dtype);
    uint64_t bytes = 0;
    if (e.elements < 0 || __builtin_mul_overflow(uint64_t(e.elements), type ? type->width : 1, &bytes))
      fail(file, tensor(), " has more elements than can be counted, its shape is ", shape_text(e));
    if (type && bytes != e.end - e.begin)
      fail(file, tensor(), " of ", e.dtype, " ", shape_text(e), " needs ", bytes, " bytes, but its data_offsets ",
           e.begin, " and ", e.end, " give it ", e.end - e.begin);
    place = e.end;
  }
  check(place == data_size, file, "the tensors end at byte ", place, " of the data, but the file has ", data_size,
        " bytes of it");
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_size, const std::string& file) {
  const int64_t not_utf8 = first_not_utf8(json);
  check(not_utf8 < 0, file, "the header is not UTF-8: error at byte ", not_utf8);
  check(json.starts_with('{'), file, "the header does not start with {");
  // nlohmann's parser takes a zero byte for the end of its input, and would never see what follows.
  const size_t zero = json.find('\0');
  check(zero == json.npos, file, "the header is not JSON: error near byte ", zero);
  SafetensorsHeader header;
  Events events(header, file);
  nlohmann::json::sax_parse(json.begin(), json.end(), &events);
  const auto before = [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  };
  if (!std::is_sorted(header.entries.begin(), header.entries.end(), before))
    std::stable_sort(header.entries.begin(), header.entries.end(), before);
  check_places(header.entries, data_size, file);
  for (const SafetensorsEntry& e : header.entries) {
    const SafetensorsType* const type = safetensors_type(e.dtype);
    if (!type || !type->readable)
      fail(file, "tensor ", in_quotes(e.name), " is of type ", in_quotes(e.dtype), ", which cannot be read");
    if (e.rank > uint64_t(Shape::kMaxRank))
      fail(file, "tensor ", in_quotes(e.name), " has ", e.rank, " dimensions, but ", Shape::kMaxRank, " is the most");
  }
  return header;
}

}  // namespace rondo
