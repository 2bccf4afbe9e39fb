// Runs the test cases (doctest's options choose which). The last line is "N passed, N failed, N skipped"; the exit code
// is 1 when anything failed, or when nothing ran though nothing was filtered out.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>

#include "tensor/allocator.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

constexpr const char* kForDevices = "cuda ";  // what such tests' names begin with
int passed = 0, failed = 0, skipped = 0, without_gpu = 0;
const std::string no_gpu = why_unusable(Device::cuda);
bool everything = false;  // no test was filtered out by the user
bool queried = false;     // doctest was asked for its help, its version or a list: no test is run
std::string case_name, skip_reason;

// Counts test cases as doctest runs them; doctest's own reporter prints what fails.
struct Counter : doctest::IReporter {
  explicit Counter(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData& test) override {
    case_name = test.m_name;
    skip_reason.clear();
  }
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (stats.failure_flags != 0)
      ++failed;
    else if (!skip_reason.empty())
      ++skipped;
    else
      ++passed;
  }
  void report_query(const doctest::QueryData&) override { queried = true; }
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData& test) override {
    if (!everything || !std::string_view(test.m_name).starts_with(kForDevices)) return;
    if (++without_gpu == 1) std::printf("SKIPPED the tests \"%s...\": %s\n", kForDevices, no_gpu.c_str());
    ++skipped;
  }
};

}  // namespace

void skip(const std::string& reason) {
  skip_reason = reason.empty() ? "(no reason given)" : reason;
  std::printf("SKIPPED %s: %s\n", case_name.c_str(), skip_reason.c_str());
}

}  // namespace rondo::testing

int main(int argc, char** argv) {
  using namespace rondo::testing;
  rondo::poison_new_memory(true);
  doctest::registerReporter<Counter>("counter", 0, false);
  doctest::Context context(argc, argv);
  context.setOption("no-intro", true);
  everything = argc == 1;
  if (!no_gpu.empty()) context.addFilter("test-case-exclude", (std::string(kForDevices) + "*").c_str());
  const int code = context.run();
  if (queried) return code;
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  const bool nothing_ran = argc == 1 && passed + failed + skipped == 0;
  return code != 0 || failed > 0 || nothing_ran ? 1 : 0;
}
