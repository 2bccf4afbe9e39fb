// Shapes, dtypes, tensors and their memory.
#include "tensor/tensor.h"

#include <cmath>
#include <limits>
#include <sstream>
#include <thread>

#include "autograd/ops.h"
#include "tensor/allocator.h"
#include "tests/mallocs.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

std::string text(const auto& x) {
  std::ostringstream os;
  os << x;
  return os.str();
}

TEST_CASE("shape") {
  const Shape s = {2, 3, 4};
  CHECK(s.rank() == 3);
  CHECK(s[-1] == 4);
  CHECK(s.numel() == 24);
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{3, 0}.numel() == 0);
  CHECK(text(s) == "(2, 3, 4)");
  CHECK(text(Shape{}) == "()");
  CHECK(s == Shape{2, 3, 4});
  CHECK(!(s == Shape{2, 3}));
  CHECK(s.with(-2, 7) == Shape{2, 7, 4});
  CHECK(error_of([&] { s[3]; }) == "axis 3 is out of range for shape (2, 3, 4)");
  CHECK(error_of([&] { s[-4]; }) == "axis -4 is out of range for shape (2, 3, 4)");
  CHECK(error_of([] { Shape{-1}; }) == "a dimension cannot be -1");
  CHECK(error_of([] { Shape{1, 1, 1, 1, 1, 1, 1}; }) == "a shape has at most 6 dimensions");
}

TEST_CASE("bf16 rounds to nearest even and keeps NaN") {
  CHECK(float(bf16(1.0f)) == 1.0f);
  CHECK(float(bf16(1.00390625f)) == 1.0f);       // halfway between 1 and 1.0078125: to even
  CHECK(float(bf16(1.01171875f)) == 1.015625f);  // halfway the other way
  CHECK(float(bf16(1.005f)) == 1.0078125f);
  CHECK(std::isinf(float(bf16(3.4e38f))));
  CHECK(std::isnan(float(bf16(NAN))));
  CHECK(std::isnan(float(bf16(std::bit_cast<float>(0x7f800001u)))));  // would round to infinity
  CHECK(std::isnan(float(bf16(std::bit_cast<float>(0xffffffffu)))));  // would wrap to zero
  CHECK(float(bf16(-0.0f)) == 0.0f);
}

TEST_CASE("tensor: as text") {
  CHECK(text(Tensor()) == "(no tensor)");
  CHECK(text(full({}, 2.5)) == "f32() 2.5");
  CHECK(text(tensor<int64_t>({1234567890123, -1}, {2})) == "i64(2) {1234567890123, -1}");
  CHECK(text(tensor<uint8_t>({65, 255}, {2})) == "u8(2) {65, 255}");
  CHECK(text(zeros({9})) == "f32(9) {0, 0, 0, 0, 0, 0, 0, 0, ...}");
  CHECK(text(zeros({0, 3})) == "f32(0, 3)\n{}");
  CHECK(text(zeros({9, 1})) == "f32(9, 1)\n{{0},\n {0},\n {0},\n {0},\n {0},\n {0},\n {0},\n {0},\n ...}");
  CHECK(text(tensor<float>({1, 2, 3, 4}, {2, 1, 2})) == "f32(2, 1, 2)\n{{{1, 2}},\n {{3, 4}}}");
}

TEST_CASE("tensor: one that is empty says so") {
  const Tensor none;
  const auto used = [](auto&& f) {
    return error_of(f) == "an empty Tensor was used, which has no shape and no elements";
  };
  CHECK(used([&] { none.shape(); }));
  CHECK(used([&] { none.numel(); }));
  CHECK(used([&] { none.dtype(); }));
  CHECK(used([&] { none.device(); }));
  CHECK(used([&] { none.data<float>(); }));
  CHECK(used([&] { none.bytes(); }));
  CHECK(used([&] { none.item(); }));
  CHECK(used([&] { none.view({}); }));
  CHECK(used([&] { detach(none); }));
  CHECK(used([&] { clone(none); }));
  CHECK(used([&] { to(none, DType::f64); }));
  CHECK(used([&] { parameter(none); }));
  CHECK(used([&] { assign(none, full({}, 1)); }));
  CHECK(used([&] { Gradients()[none]; }));
  CHECK(used([&] { Tape().backward(none); }));
  CHECK(error_of([&] { matmul(zeros({2, 2}), none); }) == "matmul: b is missing");
  CHECK(error_of([&] { matmul(none, zeros({2, 2})); }) == "matmul: a is missing");
}

TEST_CASE("tensor: elements, views, copies, conversions") {
  const Tensor t = tensor<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(text(t) == "f32(2, 3)\n{{1, 2, 3},\n {4, 5, 6}}");
  const Tensor v = t.view({3, 2});
  CHECK(v.bytes() == t.bytes());
  CHECK(!t.owned_alone());
  CHECK(detach(t).bytes() == t.bytes());
  CHECK(detach(t).id() != t.id());
  const Tensor c = clone(t);
  CHECK(c.bytes() != t.bytes());
  CHECK(same_bits(c, t));
  CHECK(to(t, DType::f64).to_vector<double>()[4] == 5);
  CHECK(to(to(tensor<double>({1.5, -2}, {2}), DType::i64), DType::f32).to_vector<float>() == std::vector<float>{1, -2});
  CHECK(full({2}, 7, DType::i64).to_vector<int64_t>() == std::vector<int64_t>{7, 7});
  for (const auto& [value, dtype] :
       {std::pair{255.0, DType::u8}, {-128.0, DType::i8}, {0x1p31 - 1, DType::i32}, {-0x1p63, DType::i64}})
    CHECK(full({}, value, dtype).item() == value);
  CHECK(error_of([] { full({}, 256, DType::u8); }) == "full: 256 is no number of u8");
  CHECK(error_of([] { full({}, -1, DType::u8); }) == "full: -1 is no number of u8");
  CHECK(error_of([] { full({}, 128, DType::i8); }) == "full: 128 is no number of i8");
  CHECK(error_of([] { full({}, 0x1p63, DType::i64); }) == "full: 9.22337e+18 is no number of i64");
  CHECK(error_of([] { full({}, 1.5, DType::i64); }) == "full: 1.5 is no number of i64");
  CHECK(error_of([] { full({}, NAN, DType::i32); }) == "full: nan is no number of i32");
  CHECK(zeros({0, 5}).numel() == 0);
  CHECK(arange(4).to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2, 3});
  CHECK(arange(3, DType::f64).to_vector<double>() == std::vector<double>{0, 1, 2});
  CHECK(arange(256, DType::u8).to_vector<uint8_t>()[255] == 255);
  CHECK(arange(0, DType::i8).shape() == Shape{0});
  CHECK(error_of([] { arange(-1); }) == "arange: n is -1, but must be at least 0");
  CHECK(error_of([] { arange(std::numeric_limits<int64_t>::max()); }) ==
        "a tensor of shape (9223372036854775807) is larger than any memory");
  CHECK(error_of([] { arange(257, DType::u8); }) == "arange: 256 is no number of u8");
  CHECK(Tensor().operator bool() == false);
  CHECK(uintptr_t(t.bytes()) % 64 == 0);
}

TEST_CASE("tensor: errors") {
  CHECK(error_of([] {
          Tensor({0, int64_t{1} << 60, 8});
        }) == "a tensor of shape (0, 1152921504606846976, 8) is larger than any memory");

  const Tensor t = zeros({2, 3});
  CHECK(error_of([&] { t.data<double>(); }) == "data: asked for f64, but the tensor (2, 3) is f32");
  CHECK(error_of([&] { t.item(); }) == "item: the tensor must hold one number, but has shape (2, 3)");
  CHECK(error_of([&] { t.view({4}); }) == "view: (2, 3) has 6 elements, but (4) asks for 4");
  CHECK(error_of([] { tensor<float>({1}, {2}); }) == "tensor: 1 values were given, but shape (2) asks for 2");
  CHECK(error_of([] {
          Tensor({1 << 20, 1 << 20, 1 << 20, 1 << 20});
        }) == "a tensor of shape (1048576, 1048576, 1048576, 1048576) is larger than any memory");
  CHECK(error_of([] { Tensor({int64_t{1} << 50}); }) ==
        "out of memory: a tensor of 4503599627370496 bytes was asked for");
  const std::string why = why_unusable(Device::cuda);
  CHECK(error_of([&] { to(t, Device::cuda); }) ==
        (why.empty() ? "(no error)" : "the device cuda cannot be used: " + why + "; use the device cpu"));
}

TEST_CASE("allocator: counts, peak, and blocks used again") {
  if (!mallocs_are_counted()) return skip("this build gives every tensor a malloc of its own");
  const int64_t before = memory_stats().current_bytes;
  {
    const Tensor a({1000}), b({1000});
    CHECK(memory_stats().current_bytes - before >= 8000);
    CHECK(memory_stats().current_bytes - before <= 8000 * 9 / 8 + 128);
    reset_peak_memory();
  }
  CHECK(memory_stats().current_bytes == before);
  CHECK(memory_stats().peak_bytes >= before + 8000);
  const int64_t requests = memory_stats().system_requests;
  for (int i = 0; i < 100; ++i) Tensor({1000});
  CHECK(memory_stats().system_requests == requests);
  release_cached_memory();
  CHECK(memory_stats().cached_bytes == 0);
}

TEST_CASE("allocator: every size fits its block") {
  for (int64_t n = 1; n < 70000; n += n < 3000 ? 1 : 997) {
    const Tensor t({n}, DType::u8);
    std::memset(t.bytes(), 1, size_t(n));
    CHECK_MESSAGE(uintptr_t(t.bytes()) % 64 == 0, n);
  }
}

TEST_CASE("allocator: a pool's blocks stay where they are, and serve nobody else") {
  Tensor kept;
  const int64_t before = memory_stats().current_bytes;
  {
    const MemoryPool pool(Device::cpu);
    const void* first;
    {
      const MemoryPool::Use use(pool);
      first = Tensor({100}).bytes();
      CHECK(Tensor({100}).bytes() == first);  // done with, and used again
      kept = zeros({100});
    }
    CHECK(kept.bytes() == first);
    CHECK(memory_stats().current_bytes == before + 448);
    const Tensor other({100});
    CHECK(other.bytes() != first);
    kept = Tensor();
    CHECK(Tensor({100}).bytes() != first);
    CHECK(memory_stats().current_bytes == before + 448 * 2);  // the pool's block counts as used
    const MemoryPool::Use use(pool);
    kept = full({100}, 3);
    CHECK(kept.bytes() == first);
  }
  CHECK(kept.to_vector<float>() == std::vector<float>(100, 3));  // outlives its pool
  kept = Tensor();
  CHECK(memory_stats().current_bytes == before);
}

TEST_CASE("allocator: new memory is poisoned in tests") { CHECK(std::isnan(Tensor({3}).to_vector<float>()[2])); }

TEST_CASE("tensor: many threads make and share tensors") {
  const Tensor shared = randn({64});
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 2000; ++k) {
        const Tensor mine = shared, copy = clone(mine);
        if (!same_bits(copy, shared)) ++wrong;
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
}

TEST_CASE("tensor: what one thread makes and another frees is used again, also after the thread is gone") {
  if (!mallocs_are_counted()) return skip("sanitizers have a malloc of their own");
  constexpr int kTensors = 6000;
  std::vector<Tensor> kept(kTensors);
  const auto round = [&] {
    std::thread maker([&] {
      for (Tensor& t : kept) t = Tensor({1}, DType::i64);
    });
    maker.join();
    for (Tensor& t : kept) t = {};
  };
  for (int i = 0; i < 3; ++i) round();
  const int64_t before = mallocs();
  for (int i = 0; i < 5; ++i) round();
  CHECK(mallocs() - before < kTensors);  // of 60,000 records; a thread needs some for itself

  // A thread frees what it made, and ends.
  const auto alone = [] {
    std::thread([] {
      std::vector<Tensor> some;
      for (int i = 0; i < 2000; ++i) some.push_back(Tensor({1}, DType::i64));
    }).join();
  };
  for (int i = 0; i < 3; ++i) alone();
  const int64_t before_alone = mallocs();
  for (int i = 0; i < 5; ++i) alone();
  CHECK(mallocs() - before_alone < 2000);  // of 20,000
}

}  // namespace
}  // namespace rondo::testing
