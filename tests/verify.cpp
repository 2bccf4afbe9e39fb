// Parity with the PyTorch reference on every case of tests/goldens, and that parity is lost, and the tensor named, when
// a weight or an expected value is another.
#include "apps/parity.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

using Names = std::vector<std::string>;

std::string golden(const std::string& name) { return std::string(RONDO_GOLDENS "/") + name; }

void check_case(const std::string& name) {
  const GoldenCase c = read_golden_case(golden(name));
  const ParityReport report = compare_golden_case(c, compute_golden_case(c));
  for (const Comparison& t : report.comparisons)
    CHECK_MESSAGE(t.holds(), t.name, ": error ", t.error, ", at most ", t.tolerance, " ", t.note);
  const size_t inputs = c.expected.contains("labels") ? 4 : 3;
  CHECK(report.comparisons.size() == c.expected.size() - inputs);
  CHECK(report.notes.empty());
}

// The tensor with one element in its middle moved to just beyond the bound.
Tensor beyond(const Comparison& c, const Tensor& expected) {
  const Tensor t = clone(expected);
  const int64_t i = t.numel() / 2;
  if (t.dtype() == DType::i64) {
    t.data<int64_t>()[i] += 1;
  } else {
    float& x = t.data<float>()[i];
    const bool relative = c.group == "loss" || c.group == "train.grad_norms";
    x += float(3 * c.tolerance * (relative ? std::abs(x) : 1));
  }
  return t;
}

}  // namespace

TEST_CASE("verify: tiny") { check_case("tiny"); }
TEST_CASE("verify: two recurrent layers, qk-norm everywhere, ignored labels") { check_case("two_recurrent"); }
TEST_CASE("verify: an odd number of heads") { check_case("odd_heads"); }
TEST_CASE("verify: a single state vector") { check_case("one_state"); }
TEST_CASE("verify: segments of one block") { check_case("one_block"); }
TEST_CASE("verify: recurrent layers in a row, segments of four blocks") { check_case("in_a_row"); }
TEST_CASE("verify: a vocabulary of 300") { check_case("vocabulary_300"); }
TEST_CASE("verify: no recurrent layer") { check_case("no_recurrence"); }

TEST_CASE("verify: every expected value counts") {
  GoldenCase c = read_golden_case(golden("odd_heads"));
  const NamedResults computed = compute_golden_case(c), right = c.expected;
  for (const Comparison& held : compare_golden_case(c, computed).comparisons) {
    c.expected = right;
    c.expected[held.name] = beyond(held, right.at(held.name));
    CHECK(compare_golden_case(c, computed).failed() == Names{held.name});
    c.expected.erase(held.name);
    CHECK(compare_golden_case(c, computed).failed() == Names{held.name});
  }
  c.expected = right;
  c.expected["loss"] = full({1}, NAN);
  c.expected["logits.0"] = right.at("logits.0").view({right.at("logits.0").numel()});
  c.expected["states.0.7"] = right.at("states.0.0");
  CHECK(compare_golden_case(c, computed).failed() == Names{"logits.0", "loss", "states.0.7"});
}

TEST_CASE("verify: every weight counts") {
  GoldenCase c = read_golden_case(golden("odd_heads"));
  c.expected.erase("generate.prime");  // the weights show in the rest too
  c.train_steps = 0;
  const Names missing = compare_golden_case(c, compute_golden_case(c)).failed();
  for (const auto& entry : c.weights.tensors) {
    const std::string& name = entry.first;
    float& x = entry.second.data<float>()[0];
    const float before = x;
    x += 0.05f;
    if (name.ends_with(".beta"))
      CHECK(error_of([&] { compute_golden_case(c); }) == golden("odd_heads") + "/weights.safetensors: " + name +
                                                             " is not zero, which it always is in the reference");
    else
      CHECK_MESSAGE(compare_golden_case(c, compute_golden_case(c)).failed().size() > missing.size(), name);
    x = before;
  }
}

TEST_CASE("verify: a near tie excuses the greedy continuation, and only that") {
  GoldenCase c = read_golden_case(golden("odd_heads"));
  const NamedResults computed = compute_golden_case(c);
  const Tensor other = clone(c.expected.at("generate.greedy"));
  other.data<int64_t>()[0] += 1;
  c.expected["generate.greedy"] = other;
  CHECK(compare_golden_case(c, computed).failed() == Names{"generate.greedy"});
  c.expected["generate.min_margin"] = full({1}, 5e-5);
  const ParityReport report = compare_golden_case(c, computed);
  CHECK(report.failed().empty());
  CHECK(report.notes == Names{"greedy continuation not compared: two logits are closer than 1e-4 on the way"});
  c.expected["generate.greedy"] = computed.at("generate.greedy");
  CHECK(compare_golden_case(c, computed).failed() == Names{"generate.min_margin"});
}

}  // namespace rondo::testing
