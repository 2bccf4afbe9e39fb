// safetensors on disk: what is written, PyTorch's files, loading by name.
#include <filesystem>

#include "autograd/rounded.h"
#include "nn/file.h"
#include "nn/safetensors.h"
#include "tests/temporary.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

std::vector<NamedTensor> some_tensors() {
  return {{"w.weight", tensor<float>({1, -2, 3, 0.5, 0.25, -0.125}, {2, 3}), true},
          {"b", tensor<float>({7}, {}), true},
          {"steps", tensor<int64_t>({3, 4}, {2}), false},
          {"h", to(tensor<float>({1.5}, {1}), DType::bf16), true},
          {"m", zeros({0, 2}, DType::u8), true}};
}

// safetensors.torch.save of the same, version 0.8.0 of the Python package.
std::string pytorch_file() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"steps":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"F32","shape":[],"data_offsets":[16,20]},)"
      R"("w.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[20,44]},)"
      R"("h":{"dtype":"BF16","shape":[1],"data_offsets":[44,46]},"m":{"dtype":"U8","shape":[0,2],"data_offsets":[46,46]}})";
  const int64_t steps[] = {3, 4};
  const float numbers[] = {7, 1, -2, 3, 0.5, 0.25, -0.125};
  const uint64_t n = (header.size() + 7) / 8 * 8;
  std::string file(reinterpret_cast<const char*>(&n), 8);
  file += header + std::string(n - header.size(), ' ');
  file.append(reinterpret_cast<const char*>(steps), sizeof steps)
      .append(reinterpret_cast<const char*>(numbers), sizeof numbers);
  return file + "\xc0\x3f";
}

std::map<std::string, Tensor> by_name(const std::vector<NamedTensor>& tensors) {
  std::map<std::string, Tensor> all;
  for (const NamedTensor& t : tensors) all[t.name] = t.tensor;
  return all;
}

}  // namespace

TEST_CASE("safetensors: a written file is PyTorch's to the byte, in any order of the tensors") {
  const Temporary place;
  std::vector<NamedTensor> tensors = some_tensors();
  write_safetensors(place / "a", tensors);
  CHECK(read_file(place / "a") == pytorch_file());
  std::swap(tensors[0], tensors[3]);
  std::swap(tensors[1], tensors[4]);
  write_safetensors(place / "a", tensors);
  CHECK(read_file(place / "a") == pytorch_file());
  CHECK(place.names() == std::vector<std::string>{"a"});
}

TEST_CASE("safetensors: what was written is read back bit for bit") {
  const Temporary place;
  std::vector<NamedTensor> tensors = some_tensors();
  tensors.push_back({"\xc3\xbc \"quoted\"\n\\", randn({3, 5, 7}), true});
  tensors.push_back({"", randn({33}, DType::f32), true});
  const std::map<std::string, std::string> metadata = {{"step", "12"}, {"note", "a\tb\"c"}};
  write_safetensors(place / "a", tensors, metadata);
  const SafetensorsFile file = read_safetensors(place / "a");
  CHECK(file.metadata == std::map<std::string, std::string>{{"format", "pt"}, {"step", "12"}, {"note", "a\tb\"c"}});
  CHECK(file.tensors.size() == tensors.size());
  for (const auto& [name, t] : by_name(tensors)) CHECK(same_bits(file.tensors.at(name), t));
  uint64_t n = 0;
  std::memcpy(&n, read_file(place / "a").data(), 8);
  CHECK(n % 8 == 0);
}

TEST_CASE("safetensors: no tensors at all") {
  const Temporary place;
  write_safetensors(place / "a", {});
  CHECK(read_safetensors(place / "a").tensors.empty());
}

TEST_CASE("safetensors: what cannot be written") {
  const Temporary place;
  const auto error = [&](const std::vector<NamedTensor>& tensors,
                         const std::map<std::string, std::string>& metadata = {}) {
    return error_of([&] { write_safetensors("out.safetensors", tensors, metadata); });
  };
  const Tensor t = zeros({1});
  CHECK(error({{"a", {}, true}}) == "out.safetensors: tensor \"a\" is empty");
  CHECK(error({{"a", t, true}, {"a", t, true}}) == "out.safetensors: two tensors have the name \"a\"");
  CHECK(error({{"__metadata__", t, true}}) == "out.safetensors: no tensor can have the name \"__metadata__\"");
  CHECK(error({{"\xff", t, true}}) == "out.safetensors: the name \"\xff\" is not UTF-8");
  CHECK(error({}, {{"k", "\xff"}}) == "out.safetensors: the metadata's text \"\xff\" is not UTF-8");
  CHECK(error({}, {{"k", std::string(100'000'000, 'x')}}) ==
        "out.safetensors: the header would have 100000040 bytes, but 100000000 is the most");
  CHECK(!std::filesystem::exists("out.safetensors"));
  CHECK(error_of([&] { write_safetensors(place / "no/a", {}); }) ==
        "cannot write " + (place / "no/a") + ": No such file or directory");
}

TEST_CASE("safetensors: files that are none") {
  const Temporary place;
  CHECK(error_of([&] { read_safetensors(place / "a"); }) ==
        "cannot read " + (place / "a") + ": No such file or directory");
  CHECK(error_of([&] { read_safetensors(place / ""); }) == "cannot read " + (place / "") + ": Is a directory");
  CHECK(error_of([&] { read_safetensors("/dev/null"); }) == "cannot read /dev/null: not a regular file");
  write_file(place / "a", "text");
  CHECK(error_of([&] { read_safetensors(place / "a"); }) ==
        (place / "a") + ": the file has 4 bytes, but the length of the header takes 8");
}

TEST_CASE("safetensors: loading by name, dtypes converted") {
  const Temporary place;
  write_safetensors(place / "a", some_tensors());
  const SafetensorsFile file = read_safetensors(place / "a");
  const std::vector<NamedTensor> into = {{"w.weight", zeros({2, 3}, DType::f64), true},
                                         {"b", zeros({}, DType::bf16), true},
                                         {"steps", zeros({2}, DType::i64), false},
                                         {"h", zeros({1}), true},
                                         {"m", zeros({0, 2}, DType::u8), true}};
  const LoadReport report = load_tensors(file, into, true, "a");
  CHECK(report.missing.empty());
  CHECK(report.unexpected.empty());
  CHECK(values(into[0].tensor) == std::vector<double>{1, -2, 3, 0.5, 0.25, -0.125});
  CHECK(into[1].tensor.item() == 7);
  CHECK(values(into[2].tensor) == std::vector<double>{3, 4});
  CHECK(into[3].tensor.item() == 1.5);
}

TEST_CASE("safetensors: names that are missing or unexpected") {
  SafetensorsFile file;
  file.tensors = {{"a", full({2}, 5)}, {"x", zeros({1})}};
  const std::vector<NamedTensor> into = {{"a", zeros({2}), true}, {"b", full({3}, 9), true}, {"c", zeros({1}), true}};
  const auto error = [&](const std::vector<NamedTensor>& wanted) {
    return error_of([&] { load_tensors(file, wanted, true, "m"); });
  };
  CHECK(error(into) == "m: 2 tensors are missing: \"b\", \"c\"; 1 tensor is unexpected: \"x\"");
  CHECK(error({into[0]}) == "m: 1 tensor is unexpected: \"x\"");
  CHECK(error({into[0], {"x", zeros({1}), true}, into[1]}) == "m: 1 tensor is missing: \"b\"");
  CHECK(error({into[0], {"a", zeros({2}), true}}) == "m: two tensors to load have the name a");
  {
    const Tensor p = parameter(zeros({}));
    Tape tape;
    const Tensor y = p * p;  // its rule needs p as it is
    CHECK(error(into) == "m: a tape with recorded ops is alive; play it (backward) before weights change");
  }
  {
    WeightCopies copies;
    const WeightCopies::Use use(copies);
    CHECK(error(into) == "m: WeightCopies are in use, which new weights would make wrong");
  }
  CHECK(values(into[0].tensor) == std::vector<double>{0, 0});
  const LoadReport report = load_tensors(file, into, false, "m");
  CHECK(report.missing == std::vector<std::string>{"b", "c"});
  CHECK(report.unexpected == std::vector<std::string>{"x"});
  CHECK(values(into[0].tensor) == std::vector<double>{5, 5});
  CHECK(values(into[1].tensor) == std::vector<double>{9, 9, 9});
  std::vector<NamedTensor> many;
  for (int i = 0; i < 13; ++i) many.push_back({std::to_string(i), zeros({1}), true});
  file.tensors.clear();
  CHECK(error(many) == R"(m: 13 tensors are missing: "0", "1", "2", "3", "4", "5", "6", "7", "8", "9" and 3 more)");
}

TEST_CASE("safetensors: shapes and dtypes that differ, strict or not, and nothing is changed") {
  SafetensorsFile file;
  file.tensors = {{"a", full({2}, 5)}, {"b", zeros({2, 3})}, {"c", zeros({1}, DType::i64)}};
  for (const bool strict : {true, false}) {
    const std::vector<NamedTensor> into = {
        {"a", zeros({2}), true}, {"b", zeros({3, 2}), true}, {"c", zeros({1}, DType::i64), true}};
    CHECK(error_of([&] { load_tensors(file, into, strict, "m"); }) ==
          "m: tensor \"b\" has shape (2, 3), but (3, 2) is wanted");
    CHECK(values(into[0].tensor) == std::vector<double>{0, 0});
    CHECK(error_of([&] {
            load_tensors(file, {into[0], {"c", zeros({1}), true}}, false, "m");
          }) == "m: tensor \"c\" is i64, but f32 is wanted");
    CHECK(values(into[0].tensor) == std::vector<double>{0, 0});
  }
}

}  // namespace rondo::testing
