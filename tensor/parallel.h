// One thread pool for everything. Work is cut into tiles whose borders depend on the problem alone, never on the number
// of threads, and each tile runs on one thread: results have the same bits for any number of threads. A tape records
// what its own thread computes, not what tiles do.
#pragma once
#include <cstdint>
#include <type_traits>

namespace rondo {

// How many threads work, the caller included. Default: what the affinity mask and the cgroup quota allow.
// Change it only while nothing computes.
int num_threads();
void set_num_threads(int n);

// The tiles of one job that one thread runs, one after the other.
class Tiles {
 public:
  // The next one; -1 when none is left.
  virtual int64_t next() = 0;

 protected:
  ~Tiles() = default;
};

// Calls part(context, tiles) on each thread that finds a tile; it takes tiles until none is left, together
// 0..n_tiles-1, each once. Nested calls run in place. The first exception reaches the caller when no tile runs any
// more; the other tiles may have run or not.
void run_parts(int64_t n_tiles, void* context, void (*part)(void* context, Tiles& tiles));

// Calls f(tiles) in this way: for work that each thread prepares once for all the tiles it takes.
template <class F>
void parallel_parts(int64_t n_tiles, F&& f) {
  run_parts(n_tiles, (void*)&f,
            [](void* context, Tiles& tiles) { (*static_cast<std::remove_reference_t<F>*>(context))(tiles); });
}

// Runs tile(context, i) for every tile i in 0..n_tiles-1, in any order, on any thread; what throws, as above.
void run_tiles(int64_t n_tiles, void* context, void (*tile)(void* context, int64_t i));

// Calls f(i) in this way.
template <class F>
void parallel_for(int64_t n_tiles, F&& f) {
  run_tiles(n_tiles, (void*)&f,
            [](void* context, int64_t i) { (*static_cast<std::remove_reference_t<F>*>(context))(i); });
}

// Calls f(begin, end) for chunks of `grain` elements that cover 0..n-1.
template <class F>
void parallel_chunks(int64_t n, int64_t grain, F&& f) {
  parallel_for((n + grain - 1) / grain,
               [&](int64_t i) { f(i * grain, i * grain + grain < n ? i * grain + grain : n); });
}

}  // namespace rondo
