// How processes find each other: here they are threads. What the environment says, who may join, and how each learns
// that another one is gone.
#include "tensor/ranks.h"

#include <future>
#include <mutex>

#include "tests/environment.h"
#include "tests/port.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

// Ranks that run until each has said what became of it.
struct Meeting {
  int size = 3;
  double patience = 20;
  int port = free_port();
  std::vector<std::string> ends = {};  // what each heard from Lost, or "error: ..." where it did not come so far
  std::mutex mutex = {};

  Ranks ranks(int rank) const { return {rank, size, 0, "127.0.0.1", port, patience}; }
  // Calls f(rank, peers) in each, and waits until all have ended.
  template <class F>
  Meeting& run(F&& f, const std::function<Ranks(int)>& as = {}, const std::vector<std::string>& purposes = {}) {
    ends.assign(size_t(size), "");
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r)
      threads.emplace_back([&, r] {
        try {
          std::promise<void> lost;
          Peers peers(as ? as(r) : ranks(r), purposes.empty() ? "a purpose" : purposes[size_t(r)], r == 0 ? "word" : "",
                      [&, r](const std::string& why) {
                        std::lock_guard lock(mutex);
                        ends[size_t(r)] = why;
                        lost.set_value();
                      });
          CHECK(peers.from_first() == "word");
          if (f(r, peers)) lost.get_future().wait_for(std::chrono::seconds(20));
        } catch (const Error& e) {
          ends[size_t(r)] = std::string("error: ") + e.what();
        }
      });
    for (std::thread& t : threads) t.join();
    return *this;
  }
};
bool nothing(int, Peers&) { return false; }

}  // namespace

TEST_CASE("ranks: from the environment") {
  Environment all({"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RONDO_PATIENCE",
                   "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"});
  const auto error = [] { return error_of([] { ranks_of_environment(); }); };
  CHECK(!ranks_of_environment());
  all.set("LOCAL_RANK", "1"), all.set("MASTER_PORT", "5");
  CHECK(!ranks_of_environment());
  all.set("OMPI_COMM_WORLD_RANK", "2"), all.set("OMPI_COMM_WORLD_SIZE", "4");
  Ranks r = ranks_of_environment().value();
  CHECK(r.rank == 2);
  CHECK(r.size == 4);
  CHECK(r.local == 1);
  CHECK(r.address == "127.0.0.1");
  CHECK(r.port == 5);
  CHECK(r.patience == 300);
  all.set("RANK", "3"), all.set("WORLD_SIZE", "8"), all.set("LOCAL_RANK", ""), all.set("MASTER_ADDR", "head");
  CHECK(error() == "LOCAL_RANK= must be a whole number from 0 to 65536");
  all.unset("LOCAL_RANK"), all.set("RONDO_PATIENCE", "7");
  r = ranks_of_environment().value();
  CHECK(r.rank == 3);
  CHECK(r.size == 8);
  CHECK(r.local == 3);
  CHECK(r.address == "head");
  CHECK(r.patience == 7);
  all.set("OMPI_COMM_WORLD_LOCAL_RANK", "0");
  CHECK(ranks_of_environment()->local == 0);
  all.set("RANK", "8");
  CHECK(error() == "RANK=8 must be below WORLD_SIZE=8");
  all.set("RANK", "1x");
  CHECK(error() == "RANK=1x must be a whole number from 0 to 65536");
  all.set("RANK", "1"), all.set("WORLD_SIZE", "0");
  CHECK(error() == "WORLD_SIZE=0 must be a whole number from 1 to 65536");
  all.set("WORLD_SIZE", "2"), all.set("MASTER_PORT", "65536");
  CHECK(error() == "MASTER_PORT=65536 must be a whole number from 1 to 65535");
  all.unset("WORLD_SIZE"), all.unset("OMPI_COMM_WORLD_SIZE");
  CHECK(error() == "RANK is set, but WORLD_SIZE is not; set both, or neither to train in one process");
  all.unset("RANK"), all.set("OMPI_COMM_WORLD_RANK", "0");
  CHECK(error() ==
        "OMPI_COMM_WORLD_RANK is set, but OMPI_COMM_WORLD_SIZE is not; set both, or neither to train in one process");
}

TEST_CASE("ranks: they meet, and leave one after the other") {
  for (const int size : {1, 2, 5}) {
    Meeting m{.size = size};
    std::atomic<int> met = 0;
    m.run([&](int rank, Peers& peers) {
      ++met;
      std::this_thread::sleep_for(std::chrono::milliseconds(20 * ((rank + 1) % 3)));
      peers.finish();
      return false;
    });
    CHECK(met == size);
    CHECK(m.ends == std::vector<std::string>(size_t(size)));
  }
}

TEST_CASE("ranks: one that fails tells all others why; one that goes without a word is gone") {
  const auto ends = [](int who, bool says_why) {
    return Meeting()
        .run([&](int rank, Peers& peers) {
          if (rank == who && says_why) peers.give_up("no\nmemory");
          return rank != who;
        })
        .ends;
  };
  using Ends = std::vector<std::string>;
  CHECK(ends(0, true) == Ends{"", "rank 0: no memory", "rank 0: no memory"});
  CHECK(ends(2, true) == Ends{"rank 2: no memory", "rank 2: no memory", ""});
  CHECK(ends(0, false) == Ends{"", "rank 0 is gone", "rank 0 is gone"});
  CHECK(ends(1, false) == Ends{"rank 1 is gone", "", "rank 1 is gone"});
}

TEST_CASE("ranks: strangers are shut out") {
  Meeting m{.size = 2};
  std::thread strangers([&] {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    Socket::connect("127.0.0.1", m.port, until).send("GET / HTTP/1.1");
    Socket::connect("127.0.0.1", m.port, until).send(std::string(100000, 'x'));
    Socket::connect("127.0.0.1", m.port, until).send("rondo-ranks-1 one 2 a purpose");
    Socket::connect("127.0.0.1", m.port, until);
  });
  Ranks late = m.ranks(1);
  m.run(
      [](int, Peers& peers) {
        peers.finish();
        return false;
      },
      [&](int rank) {
        if (rank == 1) strangers.join();
        return m.ranks(rank);
      });
  CHECK(m.ends == std::vector<std::string>(2));
}

TEST_CASE("ranks: those that do not belong together") {
  using Ends = std::vector<std::string>;
  const auto both = [](const std::string& why) { return Ends{"error: " + why, "error: rank 0: " + why}; };
  Meeting two{.size = 2};
  CHECK(two.run(nothing,
                [&](int r) {
                  return Ranks{r, 2 + r, 0, "127.0.0.1", two.port};
                })
            .ends == both("rank 1 was started with WORLD_SIZE=3, but rank 0 with 2"));
  CHECK(two.run(nothing, {}, {"text 1", "text 2"}).ends ==
        both("rank 1 is to work on something else than rank 0: text 2 is not text 1"));

  Meeting three;
  const std::string twice = "two processes have RANK=1; give each of the 3 its own, from 0";
  CHECK(three.run(nothing, [&](int r) { return three.ranks(std::min(r, 1)); }).ends ==
        Ends{"error: " + twice, "error: rank 0: " + twice, "error: rank 0: " + twice});
}

TEST_CASE("ranks: those that do not come") {
  const Meeting m{.size = 3, .patience = 0.2};
  const std::string port = std::to_string(m.port);
  CHECK(error_of([&] { Peers(m.ranks(1), "", "", {}); }) ==
        "rank 0 cannot be reached at 127.0.0.1:" + port +
            ": Connection refused; start it too, or set MASTER_ADDR and MASTER_PORT to where it listens");
  CHECK(error_of([&] { Peers(m.ranks(0), "", "", {}); }) ==
        "only 1 of 3 ranks came within 0.2 s; missing: 1, 2; start them, or set WORLD_SIZE to how many there are");
  CHECK(error_of([&] { Peers(m.ranks(3), "", "", {}); }) == "rank 3 is outside 0..2");
  Ranks nowhere = m.ranks(1);
  nowhere.address = "no.such.machine.invalid";
  CHECK(
      error_of([&] { Peers(nowhere, "", "", {}); }).starts_with("the address no.such.machine.invalid is not known: "));
  const Socket taken = Socket::listen("127.0.0.1", m.port);
  CHECK(error_of([&] { Peers(m.ranks(0), "", "", {}); }) ==
        "cannot listen at port " + port + ": Address already in use; set another MASTER_PORT for all ranks");
  CHECK(error_of([&] { Peers(m.ranks(1), "", "", {}); }) ==
        "rank 0 did not answer at 127.0.0.1:" + port +
            "; look at what it says, or set another MASTER_PORT for all ranks");
}

}  // namespace rondo::testing
