// A few rows times the weights on CUDA, in every type they are kept in.
#include <utility>

#include "tests/cuda/compare.h"

namespace rondo::testing {
namespace {

// Whole numbers, exact in f32, bf16 and i8.
Tensor weights(const Shape& shape, DType dtype) {
  Tensor w(shape, DType::f32);
  for (int64_t i = 0; i < w.numel(); ++i) w.data<float>()[i] = float((i * 37 + i / 7) % 255 - 127);
  return to(w, dtype);
}

void run(auto device, bool accumulate, bool scaled, const List& in, const List& out) {
  copy(device, in[3], out[0]);
  gemv(device, in[0], in[1], scaled ? in[2] : Tensor(), accumulate, out[0]);
}

}  // namespace

TEST_CASE("cuda gemv") {
  for (DType kept : {DType::f32, DType::f64, DType::bf16, DType::i8}) {
    const DType d = kept == DType::f64 ? DType::f64 : DType::f32;
    for (int64_t m : {1, 2, 8, 9, 19})
      for (const auto& [n, k] :
           {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {33, 32}, {9, 600}, {70, 48}, {5, 1365}, {0, 16}})
        for (bool accumulate : {false, true})
          for (bool scaled : {false, true})
            check_same("gemv",
                       {randn({m, k}, d), weights({n, k}, kept), randn({n}, d, 2),
                        accumulate ? randn({m, n}, d, 3) : full({m, n}, NAN, d)},
                       {like({m, n}, d)}, tolerance_of(d),
                       [&](auto device, const List& in, const List& out) { run(device, accumulate, scaled, in, out); });
    // Rows of no numbers add up to nothing.
    const Tensor y = full({2, 3}, 5, d, Device::cuda), x({2, 0}, d, Device::cuda);
    const Tensor none = to(weights({3, 0}, kept), Device::cuda);
    gemv(Cuda{}, x, none, {}, true, y);
    CHECK(same_bits(to(y, Device::cpu), full({2, 3}, 5, d)));
    gemv(Cuda{}, x, none, {}, false, y);
    CHECK(same_bits(to(y, Device::cpu), zeros({2, 3}, d)));
  }
}

TEST_CASE("cuda gemv: a row has the same bits whatever stands beside it") {
  for (int64_t k : {47, 48}) {
    const Tensor x = randn({11, k}, DType::f32), w = to(randn({21, k}, DType::f32, 2), Device::cuda);
    Tensor all({11, 21}, DType::f32, Device::cuda), one({1, 21}, DType::f32, Device::cuda);
    gemv(Cuda{}, to(x, Device::cuda), w, {}, false, all);
    const Tensor expected = to(all, Device::cpu);
    for (int64_t i = 0; i < 11; ++i) {
      Tensor row({1, k}, DType::f32), found({1, 21}, DType::f32);
      copy_rows(Cpu{}, x, {i * k, k}, row, {0, k}, 1, k);
      copy_rows(Cpu{}, expected, {i * 21, 21}, found, {0, 21}, 1, 21);
      gemv(Cuda{}, to(row, Device::cuda), w, {}, false, one);
      CHECK(same_bits(to(one, Device::cpu), found));
    }
  }
}

}  // namespace rondo::testing
