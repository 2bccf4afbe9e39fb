// The kernels that fill, copy and update memory, on sizes around their tiles.
#include <limits>

#include "tensor/kernels.h"
#include "tests/testing.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

constexpr int64_t kSizes[] = {0, 1, 33, 16383, 16384, 16385, 50001};
constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8, DType::i8};

// 0..99 over and over: exact in every dtype.
Tensor counted(int64_t n, DType dtype) {
  const Tensor t({n}, DType::f64);
  for (int64_t i = 0; i < n; ++i) t.data<double>()[i] = double(i % 100);
  Tensor y({n}, dtype);
  copy(Cpu(), t, y);
  return y;
}

}  // namespace

TEST_CASE("copy: every dtype to every dtype") {
  for (int64_t n : kSizes)
    for (DType from : kDTypes)
      for (DType into : kDTypes) {
        const Tensor y({n}, into), back({n}, DType::f64);
        copy(Cpu(), counted(n, from), y);
        copy(Cpu(), y, back);
        CHECK(same_bits(back, counted(n, DType::f64)));
      }
}

TEST_CASE("copy: numbers that do not fit keep what they can") {
  const Tensor wide = tensor<double>({1.005, 1e300, -1e-300, NAN}, {4});
  CHECK(values(to(wide, DType::bf16))[0] == 1.0078125);
  CHECK(values(to(wide, DType::f32))[1] == INFINITY);
  CHECK(values(to(wide, DType::f32))[2] == 0);
  CHECK(std::isnan(values(to(wide, DType::bf16))[3]));
  CHECK(to(tensor<int64_t>({int64_t(1) << 53}, {1}), DType::f64).item() == 9007199254740992.0);
  CHECK(to(tensor<double>({-2.75, 2.75}, {2}), DType::i32).to_vector<int32_t>() == std::vector<int32_t>{-2, 2});
}

TEST_CASE("fill, add_into, scale_into: every element") {
  for (int64_t n : kSizes) {
    for (DType dtype : kDTypes) {
      const Tensor y({n}, dtype);
      fill(Cpu(), 7, y);
      CHECK(values(y) == std::vector<double>(size_t(n), 7));
    }
    for (DType dtype : {DType::f32, DType::f64}) {
      const Tensor x = counted(n, dtype), y = full({n}, 5, dtype);
      add_into(Cpu(), x, y);
      scale_into(Cpu(), -0.5, y);
      const std::vector<double> found = values(y);
      for (int64_t i = 0; i < n; ++i) CHECK(found[size_t(i)] == -0.5 * double(i % 100 + 5));
    }
  }
}

TEST_CASE("first_non_finite: the first one, wherever it is") {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (int64_t n : kSizes) {
      CHECK(first_non_finite(Cpu(), full({n}, 3e38, dtype)) == -1);  // a sum of these would overflow
      for (double bad : {NAN, INFINITY, -INFINITY}) {
        const Tensor x = full({n}, 3e38, dtype), one = full({1}, bad, dtype);
        for (int64_t at : {n - 1, n / 2, int64_t(0)}) {  // each before the ones that are there
          if (n == 0) continue;
          copy_rows(Cpu(), one, {0, 1}, x, {at, 1}, 1, 1);
          CHECK(first_non_finite(Cpu(), x) == at);
        }
      }
    }
  CHECK(first_non_finite(Cpu(), full({3}, 1, DType::i64)) == -1);
}
