// The transformer's feed-forward layer with a gated unit: norm, Linear(d -> 2F), GEGLU, Linear(F -> d).
#pragma once
#include <string>

#include "nn/linear.h"
#include "nn/module.h"
#include "nn/norm.h"

namespace rondo {

struct FeedForward {
  LayerNorm norm;
  Linear in, out;

  FeedForward() = default;
  // F = int(dim * mult * 2 / 3), so that the three products cost as much as two of width dim * mult.
  FeedForward(int64_t dim, int64_t mult, Generator& g, DType dtype = DType::f32)
      : norm(dim, dtype),
        in(dim, 2 * (dim * mult * 2 / 3), false, g, dtype),
        out(dim * mult * 2 / 3, dim, false, g, dtype) {}

  // x [..., dim] -> x + FF(x), the residual included.
  Tensor operator()(const Tensor& x) const { return out(geglu(in(norm(x))), x); }

  template <class F>
  void each(F&& f) {  // the places in the reference's nn.Sequential; 2 is the activation
    each_in("0.", norm, f);
    each_in("1.", in, f);
    each_in("3.", out, f);
  }
};

}  // namespace rondo
