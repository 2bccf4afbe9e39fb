// Elementwise kernels. Curves go by lanes of a fixed width, so that a number's bits do not depend on its neighbours or
// on its address; sums and products are rounded once however they are vectorised, and their loops are plain ones.
#include <functional>

#include "tensor/cpu/lanes.h"
#include "tensor/cpu/strided.h"
#include "tensor/kernels.h"

namespace rondo {
namespace {

using namespace cpu;

template <class F, class T>
void binary_run(const F& f, Run<T> a, Run<T> b, T* __restrict y, int64_t n) {
  with_step(a.step, [&](auto of_a) {
    with_step(b.step, [&](auto of_b) {
      for (int64_t i = 0; i < n; ++i) y[i] = f(a.p[i * of_a], b.p[i * of_b]);
    });
  });
}

// Calls g(f) with what an enumerator stands for.
template <class G>
void with_binary(Binary how, G&& g) {
  switch (how) {
    case Binary::add:
      return g(std::plus<>());
    case Binary::sub:
      return g(std::minus<>());
    case Binary::mul:
      return g(std::multiplies<>());
    case Binary::div:
      return g(std::divides<>());
    case Binary::larger:
      return g([](auto u, auto v) { return larger(u, v); });
    case Binary::smaller:
      return g([](auto u, auto v) { return smaller(u, v); });
    case Binary::above:
      return g([](auto u, auto v) { return above(u, v); });
    case Binary::passed:
      return g([](auto u, auto v) { return passed(u, v); });
  }
}

}  // namespace

void unary(Cpu, const Unary& how, const Tensor& x, const Tensor& y) {
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* xs = x.data<T>();
    T* ys = y.data<T>();
    std::visit(
        [&](const auto& f) {
          const auto value = [&](const auto& v) -> plain_t<decltype(v)> { return f.value(v); };
          parallel_chunks(x.numel(), kTile,
                          [&](int64_t begin, int64_t end) { lane_map(end - begin, ys + begin, value, xs + begin); });
        },
        how);
  });
}

void unary_backward(Cpu, const Unary& how, const Tensor& dy, const Tensor& x, const Tensor& y, const Tensor& dx) {
  dispatch_float(dy.dtype(), [&]<class T>() {
    const T *dys = dy.data<T>(), *xs = x.data<T>(), *ys = y.data<T>();
    T* dxs = dx.data<T>();
    std::visit(
        [&](const auto& f) {
          const auto chain = [&](const auto& d, const auto& v, const auto& w) { return chained(f, d, v, w); };
          parallel_chunks(dy.numel(), kTile, [&](int64_t begin, int64_t end) {
            lane_map(end - begin, dxs + begin, chain, dys + begin, xs + begin, ys + begin);
          });
        },
        how);
  });
}

void binary(Cpu, Binary how, const Tensor& a, const Tensor& b, const Tensor& y) {
  if (y.numel() == 0) return;
  dispatch_float(y.dtype(), [&]<class T>() {
    T* ys = y.data<T>();
    const Walk<2> walk(y.shape(), {broadcast_strides(a.shape(), y.shape()), broadcast_strides(b.shape(), y.shape())});
    const auto run = [&](int64_t at, int64_t n, Run<T> of_a, Run<T> of_b) {
      with_binary(how, [&](const auto& f) { binary_run(f, of_a, of_b, ys + at, n); });
    };
    walk.for_runs(run, a.data<T>(), b.data<T>());
  });
}

}  // namespace rondo
