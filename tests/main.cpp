// Runs all test cases. The last line is "N passed, N failed, N skipped"; the exit code is 1 when anything failed.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/testing.h"

#include <cstdio>

#include "tensor/allocator.h"

namespace rondo::testing {
namespace {

struct Skipped {};
bool skipped_now = false;
int passed = 0, failed = 0, skipped = 0;

struct Counter : doctest::IReporter {
  explicit Counter(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData&) override { skipped_now = false; }
  void test_case_end(const doctest::CurrentTestCaseStats& s) override {
    ++(s.failure_flags ? failed : skipped_now ? skipped : passed);
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

}  // namespace

void skip(const std::string& reason) {
  skipped_now = true;
  std::printf("skipped: %s: %s\n", doctest::detail::g_cs ? "" : "", reason.c_str());
}

}  // namespace rondo::testing

int main(int argc, char** argv) {
  rondo::poison_new_memory(true);
  doctest::registerReporter<rondo::testing::Counter>("counter", 0, false);
  doctest::Context context(argc, argv);
  context.setOption("no-intro", true);
  const int code = context.run();
  std::printf("%d passed, %d failed, %d skipped\n", rondo::testing::passed, rondo::testing::failed, rondo::testing::skipped);
  return code;
}
