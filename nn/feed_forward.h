// The transformer's feed-forward layer with a gated unit: norm, Linear(d -> 2F), GEGLU, Linear(F -> d).
#pragma once
#include <string>

#include "linear.h"
#include "module.h"
#include "norm.h"

namespace rondo {

struct FeedForward {
  LayerNorm norm;
  Linear in, out;

  FeedForward() = default;
  FeedForward(int64_t dim, int64_t mult, Generator& g, DType dtype = DType::f32)
      : norm(dim, dtype), in(dim, 2 * width(dim, mult), false, g, dtype), out(width(dim, mult), dim, false, g, dtype) {}
  // F: so many that the three products cost as much as two of width dim * mult.
  static int64_t width(int64_t dim, int64_t mult) { return dim * mult * 2 / 3; }

  // x [..., dim] -> x + FF(x), the residual included.
  Tensor operator()(const Tensor& x) const {
    const Tensor h = norm(x);
    const int64_t more = padding(h);
    return more ? padded(h, x, more) : out(geglu(in(h)), x);
  }

  // How many zeros behind F columns make rows of bf16 whole numbers of 32 bytes, as a GPU's tensor cores want them.
  int64_t padding(const Tensor& h) const {
    constexpr int64_t kMultiple = 16;
    const bool wanted = h.device() == Device::cuda && h.dtype() == DType::bf16;
    return wanted ? (kMultiple - out.weight.dim(1) % kMultiple) % kMultiple : 0;
  }
  // The same from the normed h, with F + `more` columns between the products. Those that came are zeros all the way,
  // and no parameter has them.
  Tensor padded(const Tensor& h, const Tensor& x, int64_t more) const {
    const Tensor inner = geglu(padded_linear(h, in.weight, {.rows = more, .groups = 2}));
    return padded_linear(inner, out.weight, {.columns = more}, x);
  }

  template <class F>
  void each(F&& f) {  // the places in the reference's nn.Sequential; 2 is the activation
    each_in("0.", norm, f);
    each_in("1.", in, f);
    each_in("3.", out, f);
  }
};

}  // namespace rondo
