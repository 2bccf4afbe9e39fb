// Rotary position embedding, against the reference's formula, differences, and what must not change it.
#include "tests/runs.h"

using namespace rondo;
using namespace rondo::testing;

namespace {

Op rotation(const Tensor& table, Rotate which, int64_t first, int64_t window) {
  return [=](const std::vector<Tensor>& in) { return rotary(in[0], to(table, in[0].device()), which, first, window); };
}

// x * cos * scale + rotate_half(x) * sin * scale, as the reference writes it.
Tensor naive_rotary(const Tensor& x, int64_t d, Rotate which, int64_t first, int64_t window, int64_t table_window) {
  Tensor y = empty_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const int64_t column = i % d, pair = column % (d / 2), position = first + i / x.dim(2) % x.dim(1) % window;
    const double inv_freq = 1 / float(std::pow(10000.0, double(float(2 * pair) / float(d))));
    const double base = (float(2 * pair) + float(0.4 * double(d))) / float(1.4 * double(d));
    const double power = double(position - table_window) / 512;
    const double scale = std::pow(base, which == Rotate::query ? power : -power);
    const double half = column < d / 2 ? -x.data<double>()[i + d / 2] : x.data<double>()[i - d / 2];
    const double angle = double(position) * inv_freq;
    y.data<double>()[i] = x.data<double>()[i] * std::cos(angle) * scale + half * std::sin(angle) * scale;
  }
  return y;
}

}  // namespace

TEST_CASE("rotary_table: shape and numbers") {
  const Tensor table = rotary_table(512, 64, DType::f64);
  CHECK(table.shape() == Shape{2, 1024, 64});
  const auto at = [&](int64_t which, int64_t position, int64_t i) {
    return table.data<double>()[(which * 1024 + position) * 64 + i];
  };
  // 10000^(-1/32) and the bases 25.6/89.6 and 27.6/89.6 in f32 arithmetic, also in f64.
  CHECK(at(0, 512, 1) == doctest::Approx(std::cos(512 * double(0.74989420933f))).epsilon(1e-12));
  CHECK(at(0, 512, 33) == doctest::Approx(std::sin(512 * double(0.74989420933f))).epsilon(1e-12));
  CHECK(at(0, 512, 1) != doctest::Approx(std::cos(512 * 0.74989420933245582)).epsilon(1e-9));
  CHECK(at(0, 0, 0) == doctest::Approx(1 / double(25.6f / 89.6f)).epsilon(1e-14));
  CHECK(at(1, 0, 0) == doctest::Approx(double(25.6f / 89.6f)).epsilon(1e-14));
  CHECK(at(0, 0, 1) == doctest::Approx(1 / double(27.6f / 89.6f)).epsilon(1e-14));
  CHECK(at(0, 0, 32) == 0);
  // Queries and keys have inverse scales: cos^2 + sin^2 = 1.
  for (int64_t position : {0, 1, 77, 1023})
    for (int64_t i = 0; i < 32; ++i)
      CHECK(at(0, position, i) * at(1, position, i) + at(0, position, 32 + i) * at(1, position, 32 + i) ==
            doctest::Approx(1).epsilon(1e-14));
}

TEST_CASE("rotary_table: f32 holds the f64 numbers, rounded") {
  for (int64_t d : {2, 16, 34, 64})
    CHECK(same_bits(rotary_table(33, d), to(rotary_table(33, d, DType::f64), DType::f32)));
}

TEST_CASE("rotary: gradients") {
  for (uint64_t seed : {1, 2, 3})
    for (int64_t d : {2, 6, 16, 34, 64})
      for (Rotate which : {Rotate::query, Rotate::key}) {
        const Tensor table = rotary_table(8, d, DType::f64);
        gradcheck(rotation(table, which, 8, 8), {randn({2, 3, 2 * d}, DType::f64, seed)});
        gradcheck(rotation(table, which, 5, 2), {randn({1, 5, d}, DType::f64, seed)});
      }
  gradcheck(rotation(rotary_table(4, 1000, DType::f64), Rotate::key, 3, 4), {randn({1, 1, 1000})});
}

TEST_CASE("rotary: the same as the reference's formula") {
  for (int64_t d : {2, 16, 34, 64, 1000})
    for (Rotate which : {Rotate::query, Rotate::key}) {
      const Tensor table = rotary_table(16, d, DType::f64), x = randn({2, 40, 3 * d}, DType::f64, uint64_t(d));
      const Tensor own = rotary(x, table, which, 16, 16), memory = rotary(x, table, which, 4, 12);
      CHECK(max_abs_diff(own, naive_rotary(x, d, which, 16, 16, 16)) < 1e-13);
      CHECK(max_abs_diff(memory, naive_rotary(x, d, which, 4, 12, 16)) < 1e-13);
    }
}

TEST_CASE("rotary: f32") {
  // Two products and a sum of rounded numbers.
  const Tensor x = randn({2, 40, 128}), table = rotary_table(16, 64), exact = to(table, DType::f64);
  const Op op = [&](const std::vector<Tensor>& in) {
    const Tensor& angles = in[0].dtype() == DType::f32 ? table : exact;
    return rotary(in[0], to(angles, in[0].device()), Rotate::query, 16, 16);
  };
  check_f32_against_f64(op, {x}, 5e-7);
}

TEST_CASE("rotary: only differences of positions matter") {
  const int64_t w = 24, d = 34;
  const Tensor table = rotary_table(w, d, DType::f64), q = randn({1, 9, d}), k = randn({1, 9, d}, DType::f64, 2);
  const auto products = [&](int64_t first_q, int64_t first_k) {
    const Tensor a = rotary(q, table, Rotate::query, first_q, 9), b = rotary(k, table, Rotate::key, first_k, 9);
    return matmul(a.view({9, d}), permute(b.view({9, d}), {1, 0}));
  };
  const Tensor expected = products(20, 13);
  for (int64_t shift : {-13, -5, 1, 19}) CHECK(max_abs_diff(products(20 + shift, 13 + shift), expected) < 1e-12);
  CHECK(max_abs_diff(products(21, 13), expected) > 0.1);
}

TEST_CASE("rotary: rotations keep lengths where the scale is 1") {
  const Tensor table = rotary_table(16, 64, DType::f64), x = randn({1, 1, 64});
  const Tensor y = rotary(x, table, Rotate::query, 16, 1);  // position W: power 0
  CHECK(sum(y * y).item() == doctest::Approx(sum(x * x).item()).epsilon(1e-13));
}

TEST_CASE("rotary: empty tensors") {
  const Tensor table = rotary_table(4, 6, DType::f64);
  for (const Shape& shape : {Shape{0, 3, 6}, Shape{2, 0, 6}, Shape{2, 3, 0}})
    CHECK(run(rotation(table, Rotate::key, 4, 4), {Tensor(shape, DType::f64)})[1].shape() == shape);
}

TEST_CASE("rotary: the same bits on any number of threads") {
  const Op op = rotation(rotary_table(64, 34), Rotate::query, 64, 64);
  check_same_bits_on_threads(op, {randn({3, 500, 3 * 34}, DType::f32)});
}

TEST_CASE("rotary: errors") {
  CHECK(error_of([] { rotary_table(8, 5); }) == "rotary_table: head width is 5, but pairs ask for an even number");
  CHECK(error_of([] { rotary_table(8, 0); }) == "rotary_table: head width is 0, but pairs ask for an even number");
  CHECK(error_of([] { rotary_table(40000, 4); }) ==
        "rotary_table: window is 40000, but the scales of so many positions (xPos) leave the range of f32");
  CHECK(error_of([] { rotary_table(40000, 4, DType::f64); }) == "(no error)");
  CHECK(error_of([] { rotary_table(0, 4); }) ==
        "rotary_table: window is 0, but the table asks for at least 1 and has twice as many positions");
  CHECK(
      error_of([] { rotary_table(INT64_MAX, 4); }) ==
      "rotary_table: window is 9223372036854775807, but the table asks for at least 1 and has twice as many positions");
  const Tensor table = rotary_table(8, 6), x = randn({2, 10, 12}, DType::f32);
  const auto with = [&](const Tensor& x, int64_t first, int64_t window) {
    return error_of([&] { rotary(x, table, Rotate::query, first, window); });
  };
  CHECK(with(x, 8, 8) == "(no error)");
  CHECK(with(x, 6, 100) == "(no error)");
  CHECK(with(x, 7, 100) == "rotary: positions are 10 from 7 on, but table (2, 16, 6) has 0..15");
  CHECK(with(x, 9, 8) == "rotary: positions are 8 from 9 on, but table (2, 16, 6) has 0..15");
  CHECK(with(x, INT64_MAX - 2, 4) ==
        "rotary: positions are 4 from 9223372036854775805 on, but table (2, 16, 6) has 0..15");
  CHECK(with(x, -1, 8) == "rotary: positions are 8 from -1 on, but table (2, 16, 6) has 0..15");
  CHECK(with(x, 0, 0) == "rotary: window is 0, but positions ask for at least 1");
  CHECK(with(randn({2, 10, 9}, DType::f32), 0, 8) ==
        "rotary: x has shape (2, 10, 9), but table (2, 16, 6) asks for (B, n, H*6)");
  CHECK(with(randn({10, 12}, DType::f32), 0, 8) ==
        "rotary: x has shape (10, 12), but table (2, 16, 6) asks for (B, n, H*6)");
  CHECK(with(randn({2, 10, 12}), 0, 8) == "rotary: table is f32, but x is f64");
  CHECK(error_of([&] {
          rotary(x, zeros({2, 16, 5}), Rotate::key, 0, 8);
        }) == "rotary: table has shape (2, 16, 5), but the op asks for (2, 2W, D), D even");
  const Tensor tracked = parameter(clone(table));
  Tape tape;
  CHECK(error_of([&] { rotary(x, tracked, Rotate::key, 0, 8); }) ==
        "rotary (table): has no backward rule, but its input of shape (2, 16, 6) is tracked; use detach()");
}
