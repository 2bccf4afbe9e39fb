#include "tensor/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tensor/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rondo {
namespace {

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// CPUs the cgroup's quota pays for, or a large number ("max 100000" in cgroup v2's cpu.max means no limit).
int quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string limit;
  double period = 0;
  if (!(file >> limit >> period) || limit == "max" || period <= 0) return 1 << 20;
  return std::max(1, int(std::stod(limit) / period + 0.5));
}

int allowed_threads() {
  cpu_set_t set;
  const int affinity = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, std::min(affinity, quota()));
}

using Part = void (*)(void* context, Tiles& tiles);

// True on a pool thread, and on a caller while its tiles run: tiles that want tiles run them in place.
thread_local bool inside = false;

using Clock = std::chrono::steady_clock;

// Time that went by, and how much of it this thread had a core.
struct CoreTime {
  Clock::time_point now = Clock::now();
  std::chrono::nanoseconds running = [] {
    timespec t = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  }();
};

// One job at a time. Each thread has a share of its tiles, always the same one, so that what it wrote or read in one
// job is in its cache for the next; then it takes what is left of the others' shares. The job is over when all tiles
// are done. A generation number in the upper half of a share's counter keeps a late worker from taking a tile of the
// next.
class Pool {
 public:
  explicit Pool(int n_threads) : shares_(size_t(n_threads)) {}
  // Apart from the constructor, so that threads which were started are joined if one cannot be.
  void start() {
    workers_.reserve(shares_.size());
    try {
      for (int i = 1; i < size(); ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error& e) {
      fail("cannot start thread ", workers_.size() + 2, " of ", size(), ": ", e.code().message(),
           "; ask for fewer threads");
    }
  }
  ~Pool() {
    {
      std::lock_guard lock(sleep_);
      stop_.store(true);
    }
    wake_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  int size() const { return int(shares_.size()); }

  // False when another thread's job is running: the caller then runs its tiles alone.
  bool run(int64_t n_tiles, void* context, Part part) {
    std::unique_lock busy(busy_, std::try_to_lock);
    if (!busy) return false;
    const uint64_t generation = generation_.load(std::memory_order_relaxed) + 1;
    // Late workers find nothing while the job changes.
    for (Share& s : shares_) s.next.store(generation << 32 | kNoTile, std::memory_order_seq_cst);
    context_ = context, part_ = part, n_tiles_ = n_tiles;
    done_.store(0, std::memory_order_relaxed);
    for (int i = 0; i < size(); ++i)
      shares_[size_t(i)].next.store(generation << 32 | uint64_t(begin_of(i, n_tiles)), std::memory_order_release);
    generation_.store(generation, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      std::lock_guard lock(sleep_);
      wake_.notify_all();
    }
    inside = true;
    take_tiles(generation, 0);
    inside = false;
    while (done_.load(std::memory_order_acquire) < n_tiles) wait_a_little();
    if (failed_.test(std::memory_order_relaxed)) {
      failed_.clear(std::memory_order_relaxed);
      std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    return true;
  }

 private:
  static constexpr uint64_t kNoTile = 0xffffffffu;

  // Where the share of thread i begins.
  int64_t begin_of(int i, int64_t n_tiles) const { return n_tiles * i / size(); }

  // What thread `self` takes of a job: the tiles of its own share first, then what is left of the others'.
  class Taken final : public Tiles {
   public:
    Taken(Pool& pool, uint64_t generation, int self)
        : pool_(pool), generation_(generation & kNoTile), of_(self), shares_left_(pool.size()) {}

    int64_t next() override { return ahead_ >= 0 ? std::exchange(ahead_, -1) : take(); }
    // Keeps the next one for a part that begins. False if there is none.
    bool any() { return (ahead_ = take()) >= 0; }
    int64_t count() const { return count_; }

   private:
    int64_t take() {
      for (; shares_left_ > 0; --shares_left_, of_ = of_ + 1 < pool_.size() ? of_ + 1 : 0) {
        std::atomic<uint64_t>& next = pool_.shares_[size_t(of_)].next;
        uint64_t seen = next.load(std::memory_order_acquire);
        while (seen >> 32 == generation_ &&
               int64_t(seen & kNoTile) < pool_.begin_of(of_ + 1, pool_.n_tiles_.load(std::memory_order_relaxed)))
          if (next.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
            ++count_;
            return int64_t(seen & kNoTile);
          }
      }
      return -1;
    }

    Pool& pool_;
    const uint64_t generation_;
    int of_, shares_left_;
    int64_t ahead_ = -1, count_ = 0;
  };

  // Runs tiles of a job until none is left.
  void take_tiles(uint64_t generation, int self) {
    Taken tiles(*this, generation, self);
    while (tiles.any()) {
      try {
        part_.load(std::memory_order_relaxed)(context_.load(std::memory_order_relaxed), tiles);
      } catch (...) {
        if (!failed_.test_and_set(std::memory_order_relaxed)) failure_ = std::current_exception();
      }
    }
    if (tiles.count() > 0) done_.fetch_add(tiles.count(), std::memory_order_release);
  }

  // A worker that something else keeps from its core holds all the others up with the tile it took, for as long as the
  // system lets that other thing run: hundreds of small jobs. So one that lost most of a job's time in this way stays
  // away for a while, which costs less than to be waited for.
  void work(int self) {
    static constexpr std::chrono::microseconds kLong(500);  // longer than most tiles
    static constexpr int kAway = 8;                         // times what was lost,
    static constexpr std::chrono::milliseconds kMost(100);  // if it is no more: the whole program may have been stopped
    inside = true;
    uint64_t seen = 0;
    CoreTime before;
    while (!stop_.load(std::memory_order_relaxed)) {
      if (wait_for_job(seen)) before = CoreTime();
      const Clock::time_point begin = Clock::now();
      take_tiles(seen, self);
      const Clock::duration took = Clock::now() - begin;
      if (took < kLong) continue;
      const CoreTime after;
      const Clock::duration lost = std::min(took, (after.now - before.now) - (after.running - before.running));
      before = after;
      if (2 * lost < took) continue;
      std::unique_lock lock(sleep_);
      wake_.wait_for(lock, std::min<Clock::duration>(kAway * lost, kMost), [&] { return stop_.load(); });
      before = CoreTime();
    }
  }

  // Waits for another job than number `seen`, which becomes its number: spins for 50 microseconds, then sleeps. True if
  // it slept.
  bool wait_for_job(uint64_t& seen) {
    const Clock::time_point until = Clock::now() + std::chrono::microseconds(50);
    do {
      for (int i = 0; i < 64; ++i) {
        const uint64_t g = generation_.load(std::memory_order_acquire);
        if (g != seen || stop_.load(std::memory_order_relaxed)) {
          seen = g;
          return false;
        }
        pause();
      }
    } while (Clock::now() < until);
    std::unique_lock lock(sleep_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen || stop_.load(); });
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    seen = generation_.load(std::memory_order_acquire);
    return true;
  }

  // The last tiles are running elsewhere. If their thread lost its core, giving ours up lets it go on.
  void wait_a_little() {
    for (int i = 0; i < 256; ++i) {
      if (done_.load(std::memory_order_acquire) >= n_tiles_.load(std::memory_order_relaxed)) return;
      pause();
    }
    std::this_thread::yield();
  }

  struct alignas(64) Share {
    std::atomic<uint64_t> next = 0;  // its tile that comes next
  };

  std::mutex busy_, sleep_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_ = 0;
  std::atomic<bool> stop_ = false;
  alignas(64) std::atomic<uint64_t> generation_ = 0;
  alignas(64) std::atomic<int64_t> done_ = 0;
  std::atomic<void*> context_ = nullptr;
  std::atomic<Part> part_ = nullptr;
  std::atomic<int64_t> n_tiles_ = 0;
  std::atomic_flag failed_;     // a tile of this job has
  std::exception_ptr failure_;  // and this is how
  std::vector<Share> shares_;
  std::vector<std::thread> workers_;
};

// All tiles on one thread.
class InOrder final : public Tiles {
 public:
  explicit InOrder(int64_t n_tiles) : n_(n_tiles) {}
  int64_t next() override { return i_ < n_ ? i_++ : -1; }

 private:
  int64_t i_ = 0, n_;
};

std::atomic<int> wanted = 0;  // 0: not asked for yet
std::mutex pool_mutex;

// The pool of the wanted size; made at the first job, so that a program that never computes starts no thread. Shared,
// because another thread may ask for another size while a job runs; never destroyed at the end of the program, when
// workers may still be in it.
std::shared_ptr<Pool> pool() {
  static auto& current = *new std::shared_ptr<Pool>;
  std::shared_ptr<Pool> before;  // its threads are waited for after the mutex is free again
  std::lock_guard lock(pool_mutex);
  if (!current || current->size() != num_threads()) {
    before = std::move(current);
    const auto made = std::make_shared<Pool>(num_threads());
    made->start();
    current = made;
  }
  return current;
}

}  // namespace

int num_threads() {
  int n = wanted.load(std::memory_order_relaxed);
  if (n == 0) wanted.store(n = allowed_threads());
  return n;
}

void set_num_threads(int n) {
  check(n >= 1 && n <= 1024, "the number of threads must be 1 to 1024, not ", n);
  wanted.store(n);
}

void run_parts(int64_t n_tiles, void* context, Part part) {
  check(n_tiles < (int64_t{1} << 32) - 1, "run_parts: ", n_tiles, " tiles are too many");
  if (n_tiles > 1 && num_threads() > 1 && !inside && pool()->run(n_tiles, context, part)) return;
  InOrder tiles(n_tiles);
  if (n_tiles > 0) part(context, tiles);
}

void run_tiles(int64_t n_tiles, void* context, void (*tile)(void*, int64_t)) {
  const auto each = [=](Tiles& tiles) {
    for (int64_t i = tiles.next(); i >= 0; i = tiles.next()) tile(context, i);
  };
  parallel_parts(n_tiles, each);
}

}  // namespace rondo
