// Matrix products on CUDA: transposes, rows wider in memory than the matrix, batches that share a side, nothing to add.
#include <array>

#include "tests/cuda/compare.h"

namespace rondo::testing {
namespace {

// `more` is what rows and matrices are further apart in memory than they need be.
Gemm product(int64_t m, int64_t n, int64_t k, bool ta, bool tb, int64_t more, int64_t batch) {
  Gemm g{.m = m, .n = n, .k = k, .transpose_a = ta, .transpose_b = tb, .lda = 0, .ldb = 0, .ldc = 0, .batch = batch};
  g.lda = (ta ? m : k) + more, g.ldb = (tb ? k : n) + 2 * more, g.ldc = n + 3 * more;
  g.stride_a = (ta ? k : m) * g.lda + more, g.stride_b = (tb ? n : k) * g.ldb + more, g.stride_c = m * g.ldc + more;
  return g;
}

struct Types {
  DType a, b, c;
};
const Types kTypes[] = {{DType::f32, DType::f32, DType::f32},
                        {DType::f64, DType::f64, DType::f64},
                        {DType::bf16, DType::bf16, DType::f32},
                        {DType::bf16, DType::f32, DType::f32},
                        {DType::bf16, DType::f32, DType::bf16}};

void check_product(Gemm g, const Types& t, bool share_a = false, bool share_b = false) {
  const Tensor a = randn({g.batch * g.stride_a}, t.a, 1), b = randn({g.batch * g.stride_b}, t.b, 2),
               c = randn({g.batch * g.stride_c}, t.c, 3);
  if (share_a) g.stride_a = 0;
  if (share_b) g.stride_b = 0;
  for (bool accumulate : {false, true}) {
    g.accumulate = accumulate;
    // Between the rows C must stay as it was; what is not added to may be NaN before.
    check_same("gemm", {a, b, accumulate ? c : full(c.shape(), NAN, t.c)}, {c}, tolerance_of(t.c),
               [&](auto device, const List& in, const List& out) {
                 copy(device, in[2], out[0]);
                 gemm(device, g, in[0], in[1], out[0]);
               });
    if (accumulate && g.ldc == g.n && g.stride_c == g.m * g.n)
      check_same("gemm_onto", {a, b, c}, {c}, tolerance_of(t.c), [&](auto device, const List& in, const List& out) {
        gemm_onto(device, g, in[0], in[1], in[2], out[0]);
      });
  }
}

}  // namespace

TEST_CASE("cuda gemm") {
  const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {33, 17, 65}, {1, 40, 9}, {40, 1, 9}, {8, 16, 300}, {64, 64, 32}};
  for (const Types& d : kTypes)
    for (const auto& [m, n, k] : sizes)
      for (bool ta : {false, true})
        for (bool tb : {false, true})
          for (int64_t more : {0, 1}) {
            check_product(product(m, n, k, ta, tb, more, 1), d);
            check_product(product(m, n, k, ta, tb, more, 3), d);
          }
}

TEST_CASE("cuda gemm: a batch that shares a side, products of nothing") {
  for (const Types& d : kTypes)
    for (bool ta : {false, true})
      for (bool tb : {false, true}) {
        check_product(product(5, 6, 7, ta, tb, 2, 4), d, true, false);
        check_product(product(5, 6, 7, ta, tb, 2, 4), d, false, true);
        check_product(product(5, 6, 7, ta, tb, 2, 1), d, true, true);
        for (const auto& [m, n, k, batch] :
             {std::array<int64_t, 4>{0, 6, 7, 1}, {5, 0, 7, 2}, {0, 0, 0, 1}, {5, 6, 0, 1}, {5, 6, 0, 3}, {5, 6, 7, 0}})
          check_product(product(m, n, k, ta, tb, 2, batch), d);
      }
}

// What is kept for a shape must not be taken for another.
TEST_CASE("cuda gemm: shapes that differ in one number alone") {
  for (const Types& d : kTypes) {
    Gemm base = product(6, 6, 6, false, false, 0, 3);
    base.lda = base.ldb = base.ldc = 9, base.stride_a = base.stride_b = base.stride_c = 60;
    check_product(base, d);
    for (int64_t Gemm::*number : {&Gemm::m, &Gemm::n, &Gemm::k, &Gemm::lda, &Gemm::ldb, &Gemm::ldc, &Gemm::batch,
                                  &Gemm::stride_a, &Gemm::stride_b, &Gemm::stride_c}) {
      Gemm other = base;
      --(other.*number);
      check_product(other, d);
    }
    for (bool Gemm::*transposed : {&Gemm::transpose_a, &Gemm::transpose_b}) {
      Gemm other = base;
      other.*transposed = true;
      check_product(other, d);
    }
  }
}

TEST_CASE("cuda gemm: TF32 where it is allowed") {
  const Gemm g = product(33, 17, 65, false, true, 0, 1);
  const Tensor a = randn({33, 65}, DType::f32, 1), b = randn({17, 65}, DType::f32, 2), c({33, 17});
  gemm(Cpu{}, g, a, b, c);
  const auto error = [&] {
    const Tensor there({33, 17}, DType::f32, Device::cuda);
    gemm(Cuda{}, g, to(a, Device::cuda), to(b, Device::cuda), there);
    return max_abs_diff(to(there, Device::cpu), c);
  };
  CHECK(error() < 1e-5);
  allow_tf32(true);
  CHECK(tf32_allowed());
  const double rounded = error();
  allow_tf32(false);
  CHECK(rounded > 1e-4);
  CHECK(rounded < 65 * 0x1p-11);
  CHECK(error() < 1e-5);
}

}  // namespace rondo::testing
