// The emulation's own test: kernels with one fault each, beside twins that differ from them in nothing else. A fault
// must be reported, or give wrong results in one of the orders in which threads may run; a twin must pass in all.
// What only a sanitizer sees (accesses just out of bounds, races that no order shows) is not in this list.
#include <cstdlib>
#include <string>
#include <vector>

#include "cuda/block.cuh"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

using namespace cuda;

constexpr int kN = 128;  // threads of a block
struct Tile {
  float t[kN];
};
struct Scratch {
  float scratch[32];
};

// ---- missing barriers ----
template <bool Ok>
__global__ void read_of_a_neighbour(const float* x, float* y) {
  Tile& s = shared<Tile>();
  const unsigned i = threadIdx.x;
  s.t[i] = x[i];
  if (Ok) __syncthreads();
  y[i] = s.t[(i + 1) % kN] - x[(i + 1) % kN] + x[i];
}
template <bool Ok>
__global__ void overwritten_while_read(const float* x, float* y) {
  Tile& s = shared<Tile>();
  const unsigned i = threadIdx.x;
  float sum = 0;
  for (int k = 0; k < 3; ++k) {
    s.t[i] = x[i] + float(k);
    __syncthreads();
    sum += s.t[kN - 1 - i] - x[kN - 1 - i];
    if (Ok) __syncthreads();
  }
  y[i] = x[i] + sum - 3;
}
template <bool Ok>
__device__ float reduced(float x, float (&scratch)[32]) {
  x = warp_reduce(x, Sum{});
  if (Ok) __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += scratch[w];
  return sum;
}
template <bool Ok>
__global__ void reduction_twice(const float* x, float* y) {
  Scratch& s = shared<Scratch>();
  const float once = reduced<Ok>(x[threadIdx.x], s.scratch), twice = reduced<Ok>(2 * x[threadIdx.x], s.scratch);
  y[threadIdx.x] = twice - 2 * once + x[threadIdx.x];
}
template <bool Ok>
__global__ void warp_without_barrier(const float* x, float* y) {
  Tile& s = shared<Tile>();
  const unsigned i = threadIdx.x;
  s.t[i] = x[i];
  if (Ok) __syncwarp();
  y[i] = s.t[i ^ 1] - x[i ^ 1] + x[i];
}
template <bool Ok>
__global__ void global_memory(const float* x, float* y) {
  const unsigned i = threadIdx.x;
  y[i] = x[i];
  if (Ok) __syncthreads();
  const float next = y[(i + 1) % kN];
  __syncthreads();
  y[i] += next - x[(i + 1) % kN];
}

// ---- copies in the background ----
template <bool Ok>
__global__ void copy_without_wait(const float* x, float* y) {
  Tile& s = shared<Tile>();
  const unsigned i = threadIdx.x;
  if (i < kN / 4) copy_async(s.t + 4 * i, x + 4 * i);
  copy_commit();
  if (Ok) copy_wait<0>();
  __syncthreads();
  y[i] = s.t[i];
}
template <bool Ok>
__global__ void copy_without_barrier(const float* x, float* y) {
  Tile& s = shared<Tile>();
  const unsigned i = threadIdx.x;
  if (i < kN / 4) copy_async(s.t + 4 * i, x + 4 * i);
  copy_commit();
  copy_wait<0>();
  if (Ok) __syncthreads();
  y[i] = s.t[i];
}
template <bool Ok>
__global__ void copy_waits_for_one_less(const float* x, float* y) {
  Tile& s = shared<Tile>();
  const unsigned i = threadIdx.x;
  if (i < 16) copy_async(s.t + 4 * i, x + 4 * i);
  copy_commit();
  if (i < 16) copy_async(s.t + 64 + 4 * i, x + 64 + 4 * i);
  copy_commit();
  copy_wait<Ok ? 0 : 1>();
  __syncthreads();
  y[i] = s.t[i];
}

// ---- memory nobody wrote ----
template <bool Ok>
__global__ void unwritten_shared(const float* x, float* y) {
  Tile& s = shared<Tile>();
  const unsigned i = threadIdx.x;
  if (Ok || i < kN / 2) s.t[i] = 0;
  __syncthreads();
  y[i] = s.t[i] + x[i];
}
template <bool Ok>
__global__ void unwritten_global(const float* x, float* y) {
  const unsigned i = threadIdx.x;
  if (Ok) y[i] = 0;
  y[i] += x[i];
}

// ---- barriers and shuffles that not all reach ----
template <bool Ok>
__global__ void barrier_in_a_branch(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  if (Ok || threadIdx.x < 16) __syncthreads();
}
template <bool Ok>
__global__ void two_barriers(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  if (Ok || threadIdx.x < 64)
    __syncthreads();
  else
    __syncthreads();
}
template <bool Ok>
__global__ void return_before_a_barrier(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  if (!Ok && threadIdx.x >= 100) return;
  __syncthreads();
}
template <bool Ok>
__global__ void unequal_rounds(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  for (unsigned k = 0; k < (Ok ? 3 : 2 + threadIdx.x / 64); ++k) __syncthreads();
}
template <bool Ok>
__global__ void shuffle_in_a_branch(const float* x, float* y) {
  float z = x[threadIdx.x];
  if (Ok || threadIdx.x % 32 < 20) z += 0 * __shfl_xor_sync(~0u, z, 1);
  y[threadIdx.x] = z;
}
template <bool Ok>
__global__ void shuffle_from_an_absent_lane(const float* x, float* y) {
  float z = x[threadIdx.x];
  if (threadIdx.x % 32 < 16) z += 0 * __shfl_xor_sync(0xffffu, z, Ok ? 1 : 16);
  y[threadIdx.x] = z;
}

template <bool Ok>
__global__ void launched_early(float* y) {
  if (Ok || threadIdx.x != 5) wait_for_previous_grid();
  y[threadIdx.x] = 1;
}

// ---- what a kernel may touch ----
const float* not_given = nullptr;  // points to device memory, but is no argument
__global__ void looks_around(float* y) {
  y[threadIdx.x] = float(emulation::may_touch(y) + 2 * emulation::may_touch(not_given));
}

using Kernel = void (*)(const float*, float*);

// What became of a launch: "" when y = x, else the report or "wrong results".
std::string outcome(Kernel kernel, size_t shared_bytes, const char* order, unsigned threads = kN,
                    bool host_argument = false) {
  const char* const given = std::getenv("EMULATION_ORDER");
  const std::string before = given ? given : "forward";
  setenv("EMULATION_ORDER", order, 1);
  std::vector<float> x(kN), y(kN);
  for (int i = 0; i < kN; ++i) x[i] = float(i + 1);
  float *there = nullptr, *result = nullptr;
  cudaMalloc(&there, kN * sizeof(float));
  cudaMalloc(&result, kN * sizeof(float));
  cudaMemcpy(there, x.data(), kN * sizeof(float), cudaMemcpyHostToDevice);
  std::string report;
  try {
    launch({1, threads, shared_bytes}, kernel, host_argument ? x.data() : there, result);
    cudaMemcpy(y.data(), result, kN * sizeof(float), cudaMemcpyDeviceToHost);
    for (int i = 0; i < kN; ++i)
      if (!(y[i] == x[i])) report = "wrong results";
  } catch (const emulation::Error& e) {
    report = e.what();
  }
  cudaFree(there), cudaFree(result);
  setenv("EMULATION_ORDER", before.c_str(), 1);  // the other tests keep the order they were asked for
  return report;
}

constexpr const char* kOrders[] = {"forward", "reverse", "random:1"};

}  // namespace

TEST_CASE("emulation: every fault shows, and its twin passes") {
  const struct {
    const char* name;
    Kernel fault, twin;
  } all[] = {
#define PAIR(kernel) {#kernel, kernel<false>, kernel<true>}
      PAIR(read_of_a_neighbour),     PAIR(overwritten_while_read),
      PAIR(reduction_twice),         PAIR(warp_without_barrier),
      PAIR(global_memory),           PAIR(copy_without_wait),
      PAIR(copy_without_barrier),    PAIR(copy_waits_for_one_less),
      PAIR(unwritten_shared),        PAIR(unwritten_global),
      PAIR(barrier_in_a_branch),     PAIR(two_barriers),
      PAIR(return_before_a_barrier), PAIR(unequal_rounds),
      PAIR(shuffle_in_a_branch),     PAIR(shuffle_from_an_absent_lane),
#undef PAIR
  };
  for (const auto& k : all) {
    bool shown = false;
    for (const char* order : kOrders) {
      CHECK_MESSAGE(outcome(k.twin, sizeof(Tile), order) == "", std::string(k.name), " ", std::string(order));
      shown |= outcome(k.fault, sizeof(Tile), order) != "";
    }
    CHECK_MESSAGE(shown, std::string(k.name));
  }
}

TEST_CASE("emulation: a kernel that is launched early waits for the one before, in every thread") {
  float* y = nullptr;
  cudaMalloc(&y, kN * sizeof(float));
  CHECK_NOTHROW(launch({1, kN, 0, nullptr, true}, launched_early<true>, y));
  CHECK_NOTHROW(launch({1, kN, 0, nullptr, false}, launched_early<false>, y));
  std::string report;
  try {
    launch({1, kN, 0, nullptr, true}, launched_early<false>, y);
  } catch (const emulation::Error& e) {
    report = e.what();
  }
  CHECK(report.find("launched early, but thread 5") != report.npos);
  CHECK(report.find("does not wait for the kernel before") != report.npos);
  cudaFree(y);
}

TEST_CASE("emulation: device memory is touched by work alone, and by it only what it was given") {
  if (!emulation::keeps_others_out()) return skip("only builds for the address sanitizer can");
  float *x = nullptr, *y = nullptr;
  std::vector<float> host(kN);
  const auto all_out = [&] {
    for (const float* p : {x, x + kN - 1, y, y + kN - 1}) CHECK(!emulation::may_touch(p));
    CHECK(emulation::may_touch(host.data()));
  };
  cudaMalloc(&x, kN * sizeof(float));
  cudaMalloc(&y, kN * sizeof(float));
  all_out();
  cudaMemset(x, 0, kN * sizeof(float));
  cudaMemcpy(y, x, kN * sizeof(float), cudaMemcpyDeviceToDevice);
  cudaMemcpy(host.data(), y, kN * sizeof(float), cudaMemcpyDeviceToHost);
  all_out();
  CHECK_THROWS(launch({1, kN, 0, nullptr, true}, launched_early<false>, y));
  all_out();
  for (const float* p : {x, y}) {
    not_given = p;
    launch({1, kN}, looks_around, y);
    all_out();
    cudaMemcpy(host.data(), y, kN * sizeof(float), cudaMemcpyDeviceToHost);
    CHECK(host[kN - 1] == (p == x ? 1 : 3));
  }
  cudaFree(x);
  cudaFree(y);
}

TEST_CASE("emulation: launches that no GPU takes, and reports that say where") {
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != text.npos; };
  const Kernel fine = read_of_a_neighbour<true>;
  CHECK(outcome(fine, sizeof(Tile), "forward") == "");
  CHECK(contains(outcome(fine, sizeof(Tile) - 4, "forward"), "512 bytes of shared memory used, 508 launched"));
  CHECK(contains(outcome(fine, 232 * 1024, "forward"), "bytes of shared memory"));
  CHECK(contains(outcome(fine, sizeof(Tile), "forward", 2048), "a block of 2048 threads"));
  CHECK(contains(outcome(fine, sizeof(Tile), "forward", kN, true), "an argument points to host memory"));
  const std::string report = outcome(return_before_a_barrier<false>, sizeof(Tile), "forward");
  CHECK(contains(report, "tests/cuda/emulation.cpp:"));
  CHECK(contains(report, "thread 100"));
}

}  // namespace rondo::testing
