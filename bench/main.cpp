// Runs the rows of bench/rondo_bench, or of its LibTorch twin, with Google Benchmark. GB/s and GFLOP/s come with their
// share of what a copy, or multiply-adds alone, reach in the same run.
#include <algorithm>
#include <cstring>
#include <sstream>

#include "bench/rows.h"
#include "tensor/cpu/vector.h"
#include "tensor/parallel.h"

namespace rondo::bench {
namespace {

double measure_copy() {
  const int64_t n = 16 << 20, grain = n / 64;
  const Tensor x = zeros({n}), y = zeros({n});
  double best = 1e9;
  for (int i = 0; i < 8; ++i)
    best = std::min(best, seconds_of([&] {
                      parallel_chunks(n, grain, [&](int64_t begin, int64_t end) {
                        std::memcpy(y.data<float>() + begin, x.data<float>() + begin, size_t(end - begin) * 4);
                      });
                    }));
  return 2 * double(x.n_bytes()) / best;
}

double measure_fma() {
  using Vector = cpu::Register<float>::type;
  constexpr int kChains = 12, kRounds = 1 << 20;  // enough independent chains to hide the latency
  double best = 1e9;
  for (int i = 0; i < 4; ++i)
    best = std::min(best, seconds_of([&] {
                      parallel_for(num_threads(), [&](int64_t tile) {
                        Vector sums[kChains] = {}, a = Vector{} + float(tile) * 1e-9f;
                        benchmark::DoNotOptimize(a);
                        for (int round = 0; round < kRounds; ++round)
                          for (Vector& sum : sums) sum = sum * a + a;
                        for (Vector& sum : sums) benchmark::DoNotOptimize(sum);
                      });
                    }));
  return 2.0 * double(cpu::Register<float>::length) * kChains * kRounds * num_threads() / best;
}

}  // namespace

double copy_ceiling() {
  static const double bytes_per_second = measure_copy();
  return bytes_per_second;
}
double fma_ceiling() {
  static const double flops = measure_fma();
  return flops;
}

std::string text(const Shape& shape) {
  std::ostringstream out;
  for (int i = 0; i < shape.rank(); ++i) out << (i ? "x" : "") << shape[i];
  return shape.rank() ? out.str() : "scalar";
}

std::string row_name(const std::string& op, const std::vector<Shape>& shapes) {
  std::string name = op;
  for (const Shape& shape : shapes) name += " " + text(shape);
  return name + " f32";
}

void add_row(const std::string& name, std::function<Work()> prepare, int64_t times) {
  const auto run = [=](benchmark::State& state) {
    const auto [timed, cost] = prepare();
    timed();  // warms up
    double seconds = 0;
    for (auto _ : state) {
      const double once = timed();
      state.SetIterationTime(once);
      seconds += once;
    }
    const double rate = double(state.iterations()) / seconds;
    const bool gpu = cost.device == Device::cuda;
    if (cost.flops > 0) {
      state.counters["GFLOP/s"] = cost.flops * rate / 1e9;
      state.counters[gpu ? "%product" : "%fma"] =
          100 * cost.flops * rate / (gpu ? gpu_product_ceiling() : fma_ceiling());
    } else if (cost.bytes > 0) {
      state.counters["GB/s"] = cost.bytes * rate / 1e9;
      state.counters["%copy"] = 100 * cost.bytes * rate / (gpu ? gpu_copy_ceiling() : copy_ceiling());
    } else {
      state.counters["ns_each"] = 1e9 / rate / cost.times;
    }
  };
  auto* row = benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Unit(benchmark::kMicrosecond);
  if (times) row->Iterations(times);
}

}  // namespace rondo::bench

int main(int argc, char** argv) {
  using namespace rondo::bench;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("threads", std::to_string(rondo::num_threads()));
  benchmark::AddCustomContext("copy ceiling", std::to_string(int(copy_ceiling() / 1e9)) + " GB/s");
  benchmark::AddCustomContext("multiply-add ceiling", std::to_string(int(fma_ceiling() / 1e9)) + " GFLOP/s");
  add_rows();
  benchmark::RunSpecifiedBenchmarks();
}
