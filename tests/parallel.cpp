// The thread pool: every tile once, nested and concurrent calls, changing sizes. Run under ThreadSanitizer too.
#include "tensor/parallel.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <thread>
#include <vector>

#include "tests/mallocs.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

// Gives the number of threads back at the end of a test.
struct Threads {
  int before = num_threads();
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
};

TEST_CASE("parallel: every tile runs exactly once") {
  for (int n_threads : {1, 2, 3, 8}) {
    const Threads threads(n_threads);
    for (int64_t n : {0, 1, 2, 7, 100, 1000}) {
      std::vector<std::atomic<int>> count(static_cast<size_t>(n));
      parallel_for(n, [&](int64_t i) { ++count[size_t(i)]; });
      for (auto& c : count) CHECK(c == 1);
    }
  }
}

TEST_CASE("parallel: chunks cover the range and their borders depend on the problem alone") {
  const Threads threads(3);
  std::vector<int> seen(1003);
  parallel_chunks(1003, 100, [&](int64_t begin, int64_t end) {
    CHECK(begin % 100 == 0);
    for (int64_t i = begin; i < end; ++i) ++seen[size_t(i)];
  });
  for (int s : seen) CHECK(s == 1);
}

TEST_CASE("parallel: many small jobs after each other") {
  const Threads threads(4);
  int64_t total = 0;
  for (int job = 0; job < 5000; ++job) {
    std::atomic<int64_t> sum = 0;
    parallel_for(job % 9, [&](int64_t i) { sum += i + 1; });
    total += sum;
  }
  int64_t expected = 0;
  for (int job = 0; job < 5000; ++job) expected += (job % 9) * (job % 9 + 1) / 2;
  CHECK(total == expected);
}

TEST_CASE("parallel: sleeping workers wake up") {
  const Threads threads(2);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> n = 0;
    parallel_for(16, [&](int64_t) { ++n; });
    CHECK(n == 16);
  }
}

TEST_CASE("parallel: nested calls run in place") {
  const Threads threads(3);
  std::atomic<int> n = 0;
  parallel_for(8, [&](int64_t) { parallel_for(8, [&](int64_t) { ++n; }); });
  CHECK(n == 64);
}

TEST_CASE("parallel: what a tile throws reaches the caller, when all tiles are done") {
  for (int n_threads : {1, 2, 4}) {
    const Threads threads(n_threads);
    for (int64_t wrong = 0; wrong < 16; ++wrong) {
      std::atomic<int64_t> n = 0;
      const auto tile = [&](int64_t i) {
        if (i == wrong) throw Error("tile " + std::to_string(i));
        ++n;
      };
      CHECK(error_of([&] { parallel_for(16, tile); }) == "tile " + std::to_string(wrong));
      CHECK(n == (n_threads == 1 ? wrong : 15));
      n = 0;
      parallel_for(16, [&](int64_t) { ++n; });
      CHECK(n == 16);
    }
  }
}

TEST_CASE("parallel: a part is begun for a tile, by each thread at most once, and takes tiles until none is left") {
  for (int n_threads : {1, 2, 4}) {
    const Threads threads(n_threads);
    for (int64_t n : {0, 1, 2, 50}) {
      std::vector<std::atomic<int>> count(static_cast<size_t>(n));
      std::atomic<int> parts = 0, empty = 0;
      parallel_parts(n, [&](Tiles& tiles) {
        ++parts;
        int64_t taken = 0;
        for (int64_t i = tiles.next(); i >= 0; i = tiles.next()) ++count[size_t(i)], ++taken;
        if (taken == 0) ++empty;
        CHECK(tiles.next() == -1);
      });
      for (auto& c : count) CHECK(c == 1);
      CHECK(parts <= n_threads);
      CHECK((parts > 0) == (n > 0));
      CHECK(empty == 0);
    }
  }
}

TEST_CASE("parallel: what a part throws reaches the caller, before its first tile and behind it") {
  for (int n_threads : {1, 2, 3})
    for (const bool before : {false, true}) {
      const Threads threads(n_threads);
      const auto part = [&](Tiles& tiles) {
        if (before) throw Error("no");
        for (int64_t i = tiles.next(); i >= 0; i = tiles.next())
          if (i % 4 == 1) throw Error("no");
      };
      CHECK(error_of([&] { parallel_parts(40, part); }) == "no");
      std::atomic<int> n = 0;
      parallel_for(40, [&](int64_t) { ++n; });
      CHECK(n == 40);
    }
}

TEST_CASE("parallel: callers on several threads at once") {
  const Threads threads(2);
  std::vector<std::thread> callers;
  std::atomic<int64_t> n = 0;
  for (int t = 0; t < 3; ++t)
    callers.emplace_back([&] {
      for (int job = 0; job < 300; ++job) parallel_for(5, [&](int64_t) { ++n; });
    });
  for (std::thread& t : callers) t.join();
  CHECK(n == 3 * 300 * 5);
}

void job() {
  parallel_for(64, [](int64_t) {});
}

TEST_CASE("parallel: no thread can be started") {
  pthread_attr_t normal, huge;
  REQUIRE(pthread_getattr_default_np(&normal) == 0);
  REQUIRE(pthread_attr_init(&huge) == 0);
  REQUIRE(pthread_attr_setstacksize(&huge, size_t{1} << 50) == 0);  // no address space has room for such a stack
  const Threads threads(4);
  REQUIRE(pthread_setattr_default_np(&huge) == 0);
  const std::string error = error_of(job);
  REQUIRE(pthread_setattr_default_np(&normal) == 0);
  CHECK(error == "cannot start thread 2 of 4: Resource temporarily unavailable; ask for fewer threads");
  CHECK(error_of(job) == "(no error)");
  pthread_attr_destroy(&huge), pthread_attr_destroy(&normal);
}

TEST_CASE("parallel: some threads can be started, others not") {
  if (!mallocs_are_counted()) return skip("sanitizers need more addresses than a limit can leave");
  rlimit normal;
  REQUIRE(getrlimit(RLIMIT_AS, &normal) == 0);
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlimit limit{rlim_t(pages * sysconf(_SC_PAGESIZE)) + (256 << 20), normal.rlim_max};  // stacks take 8 MiB each
  const Threads threads(600);
  REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
  const std::string error = error_of(job);
  REQUIRE(setrlimit(RLIMIT_AS, &normal) == 0);
  CAPTURE(error);
  int started = 0;
  REQUIRE(std::sscanf(error.c_str(), "cannot start thread %d of 600: Resource temporarily unavailable", &started) == 1);
  CHECK(started > 2);
  const Threads fewer(3);
  CHECK(error_of(job) == "(no error)");
}

TEST_CASE("parallel: the number of threads") {
  CHECK(error_of([] { set_num_threads(0); }) == "the number of threads must be 1 to 1024, not 0");
  const Threads threads(5);
  CHECK(num_threads() == 5);
}

}  // namespace
}  // namespace rondo::testing
