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
      for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1},
                                 {3, 7},
                                 {33, 32},
                                 {9, 600},
                                 {70, 48},
                                 {5, 1365},
                                 {3, 2061},
                                 {2, 4096},
                                 {0, 16}})
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

TEST_CASE("cuda gemv: of norms, several products at once, and of geglu") {
  for (DType kept : {DType::f32, DType::f64, DType::bf16, DType::i8}) {
    const DType d = kept == DType::f64 ? DType::f64 : DType::f32;
    const auto product = [&](const List& at, size_t w, const Tensor& residual, const Tensor& y) {
      return Product{at[w], kept == DType::i8 ? at[w + 1] : Tensor(), residual, y};
    };
    for (int64_t m : {1, 3, 19})
      for (int64_t k : {1, 7, 48, 600, 2061}) {
        const auto scaled = [&](int64_t n, int64_t width) { return weights({n, width}, kept); };
        const List in = {randn({m, k}, d), randn({k}, d, 2),       scaled(9, k),  randn({9}, d, 3),
                         scaled(1, k),     randn({1}, d, 4),       scaled(33, k), randn({33}, d, 5),
                         randn({m, 9}, d), randn({m, 2 * k}, d, 6)};
        check_same("norm_gemv", in, {like({m, 9}, d), like({m, 1}, d), like({m, 33}, d)}, 2 * tolerance_of(d),
                   [&](auto device, const List& at, const List& out) {
                     const Product all[] = {product(at, 2, at[8], out[0]), product(at, 4, {}, out[1]),
                                            product(at, 6, {}, out[2])};
                     norm_gemv(device, at[0], at[1], 1e-5, all);
                   });
        check_same("geglu_gemv", in, {like({m, 9}, d)}, tolerance_of(d),
                   [&](auto device, const List& at, const List& out) {
                     geglu_gemv(device, at[9], product(at, 2, at[8], out[0]));
                   });
      }
  }
}

TEST_CASE("cuda gemv: a row has the same bits whatever stands beside it") {
  for (int64_t k : {47, 48, 2051}) {
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
