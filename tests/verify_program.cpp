// rondo verify: exit codes, messages, the dump, JSON.
#include <nlohmann/json.hpp>

#include "nn/safetensors.h"
#include "tests/program.h"

namespace rondo::testing {
namespace {

std::string golden(const std::string& name) { return std::string(RONDO_GOLDENS "/") + name; }

// A copy of a case that a test may change.
struct CaseCopy {
  Temporary directory;
  explicit CaseCopy(const std::string& name) {
    for (const char* file : {"config.json", "weights.safetensors", "expected.safetensors"})
      write_file(directory / file, read_file(golden(name) + "/" + file));
  }
  std::string path() const { return directory / "."; }
  void replace(const std::string& file, const std::string& from, const std::string& to) const {
    std::string text = read_file(directory / file);
    text.replace(text.find(from), from.size(), to);
    write_file(directory / file, text);
  }
  // Adds to the first element of a tensor.
  void add(const std::string& file, const std::string& name, float amount) const {
    const SafetensorsFile old = read_safetensors(directory / file);
    old.tensors.at(name).data<float>()[0] += amount;
    std::vector<NamedTensor> tensors;
    for (const auto& [key, tensor] : old.tensors) tensors.push_back({key, tensor, false});
    write_safetensors(directory / file, tensors);
  }
};

}  // namespace

TEST_CASE("verify: the program holds, dumps everything, and tells in JSON") {
  const Temporary directory;
  const Outcome o = run_program({"verify", golden("in_a_row"), "--dump", directory / "dump.safetensors", "--json"});
  CHECK(o.code == 0);
  CHECK(o.err == "");
  const auto json = nlohmann::json::parse(o.out);
  CHECK(json["holds"] == true);
  CHECK(json["groups"]["grad"]["failed"] == 0);
  const auto dump = read_safetensors(directory / "dump.safetensors").tensors;
  const auto expected = read_safetensors(golden("in_a_row") + "/expected.safetensors").tensors;
  CHECK(dump.size() == expected.size());
  for (const auto& entry : expected) {
    const auto found = dump.find(entry.first);
    REQUIRE_MESSAGE(found != dump.end(), entry.first);
    CHECK(found->second.shape() == entry.second.shape());
    CHECK(found->second.dtype() == entry.second.dtype());
  }
}

TEST_CASE("verify: the program says which tensors differ") {
  const CaseCopy copy("odd_heads");
  copy.add("expected.safetensors", "grad.layers.1.0.state_container.init_state", 0.01f);
  const std::string expected = "1 rondo: " + copy.path() + ": 1 of ";
  const std::string found = complaint({"verify", copy.path()});
  CHECK(found.substr(0, expected.size()) == expected);
  CHECK(found.ends_with(" tensors are beyond their bounds: grad.layers.1.0.state_container.init_state\n"));
  CHECK(
      run_program({"verify", copy.path()}).out.find("\nFAILED grad.layers.1.0.state_container.init_state: error 1.0") !=
      std::string::npos);
  const CaseCopy weight("odd_heads");
  weight.add("weights.safetensors", "to_logits.1.weight", 0.05f);
  const Outcome o = run_program({"verify", weight.path()});
  CHECK(o.code == 1);
  CHECK(o.err.find("logits.0") != std::string::npos);
}

TEST_CASE("verify: numbers and shapes of a case that are none, and a file that is no dump") {
  const auto with = [](const char* from, const char* to) {
    const CaseCopy copy("tiny");
    copy.replace("config.json", from, to);
    const std::string found = complaint({"verify", copy.path()}), begin = "1 rondo: " + copy.path() + "/config.json: ";
    return found.starts_with(begin) ? found.substr(begin.size()) : found;
  };
  const std::string text = read_file(golden("tiny") + "/config.json");
  const size_t at = text.find("\"segments\": ");
  REQUIRE(at != text.npos);
  const std::string segments = text.substr(at, text.find_first_of(",\n", at) - at);
  CHECK(with(segments.c_str(), "\"segments\": 1.5") ==
        "segments is 1.5, but must be a whole number from 1 to 1073741824\n");
  CHECK(with(segments.c_str(), "\"segments\": 0") ==
        "segments is 0, but must be a whole number from 1 to 1073741824\n");

  const CaseCopy copy("tiny");
  const auto change = [&](const std::string& name, const Tensor& to) {
    std::vector<NamedTensor> tensors;
    for (const auto& [key, tensor] : read_safetensors(copy.directory / "expected.safetensors").tensors)
      tensors.push_back({key, key == name ? to : tensor, false});
    write_safetensors(copy.directory / "expected.safetensors", tensors);
  };
  change("generate.greedy", zeros({2, 0}, DType::i64));
  CHECK(complaint({"verify", copy.path()}).find(": generate.greedy has shape (2, 0), but generate.prime of shape ") !=
        std::string::npos);
  change("generate.greedy", zeros({3, 4}, DType::i64));
  CHECK(complaint({"verify", copy.path()}).find(": generate.greedy has shape (3, 4), but generate.prime of shape ") !=
        std::string::npos);

  const std::string config = copy.directory / "config.json", before = read_file(config);
  CHECK(complaint({"verify", golden("tiny"), "--dump", config}) ==
        "2 rondo: " + config + ": there is something already that is no dump; choose another --dump\n");
  CHECK(read_file(config) == before);
  for (int time = 0; time < 2; ++time)
    CHECK(run_program({"verify", golden("tiny"), "--dump", copy.directory / "dump"}).code == 0);
}

TEST_CASE("verify: cases that cannot be compared") {
  const CaseCopy other("odd_heads");
  other.replace("config.json", "pytorch 0.3.2", "pytorch 0.4.4");
  CHECK(complaint({"verify", other.path()}) ==
        "1 rondo: " + other.path() +
            "/config.json: the case follows block-recurrent-transformer-pytorch 0.4.4, but Rondo follows "
            "block-recurrent-transformer-pytorch 0.3.2\n");
  const CaseCopy argument("odd_heads");
  argument.replace("config.json", "\"heads\"", "\"haeds\"");
  CHECK(complaint({"verify", argument.path()}) ==
        "1 rondo: " + argument.path() + "/config.json: unknown model argument haeds\n");
  const CaseCopy truncated("odd_heads");
  write_file(truncated.directory / "config.json", "{");
  CHECK(complaint({"verify", truncated.path()})
            .starts_with("1 rondo: " + truncated.path() +
                         "/config.json: not what a golden case's is: parse error at line 1"));
  const CaseCopy old("odd_heads");
  old.replace("config.json", "\"segments\"", "\"parts\"");
  CHECK(complaint({"verify", old.path()}) ==
        "1 rondo: " + old.path() + "/config.json: not what a golden case's is: key 'segments' not found\n");
}

}  // namespace rondo::testing
