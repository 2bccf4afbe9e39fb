// Windows over images, as columns of products, and back.
#include <algorithm>

#include "tensor/kernels.h"
#include "tensor/parallel.h"

namespace rondo {
namespace {

constexpr int64_t kGrain = 16384;  // elements of a tile

// The windows begin..end-1, among `out`, whose place k is one of the elements 0..in-1.
struct Inside {
  int64_t begin, end;
  Inside(const Windows& how, int64_t k, int64_t in, int64_t out) {
    const int64_t before = how.padding - k, last = in - 1 + before;
    begin = before <= 0 ? 0 : std::min(out, (before + how.stride - 1) / how.stride);
    end = last < 0 ? begin : std::max(begin, std::min(out, last / how.stride + 1));
  }
};

// Calls f(i) for the rows 0..n-1 of `width` elements each, many at a time.
template <class F>
void for_rows(int64_t n, int64_t width, const F& f) {
  parallel_chunks(n, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace

void unfold(Cpu, const Windows& how, const Tensor& x, const Tensor& columns) {
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* const in = x.data<T>();
    T* const out = columns.data<T>();
    for_rows(how.planes * how.height * how.width * how.out_height, how.out_width, [&](int64_t i) {
      const int64_t oy = i % how.out_height, kx = i / how.out_height % how.width;
      const int64_t ky = i / how.out_height / how.width % how.height,
                    plane = i / how.out_height / how.width / how.height;
      const int64_t y = oy * how.stride + ky - how.padding;
      T* const to = out + i * how.out_width;
      if (y < 0 || y >= how.in_height) return void(std::fill_n(to, how.out_width, T(0)));
      const T* const from = in + (plane * how.in_height + y) * how.in_width + kx - how.padding;
      const Inside there(how, kx, how.in_width, how.out_width);
      std::fill(to, to + there.begin, T(0));
      if (how.stride == 1)
        std::copy(from + there.begin, from + there.end, to + there.begin);
      else
        for (int64_t ox = there.begin; ox < there.end; ++ox) to[ox] = from[ox * how.stride];
      std::fill(to + there.end, to + how.out_width, T(0));
    });
  });
}

void fold(Cpu, const Windows& how, const Tensor& columns, const Tensor& x) {
  dispatch_float(x.dtype(), [&]<class T>() {
    const T* const in = columns.data<T>();
    T* const out = x.data<T>();
    for_rows(how.planes * how.in_height, how.in_width, [&](int64_t i) {
      const int64_t plane = i / how.in_height, y = i % how.in_height;
      T* const row = out + i * how.in_width;
      std::fill_n(row, how.in_width, T(0));
      for (int64_t ky = 0; ky < how.height; ++ky) {
        const int64_t steps = y + how.padding - ky, oy = steps / how.stride;
        if (steps < 0 || steps % how.stride != 0 || oy >= how.out_height) continue;
        for (int64_t kx = 0; kx < how.width; ++kx) {
          const T* const from =
              in + (((plane * how.height + ky) * how.width + kx) * how.out_height + oy) * how.out_width;
          T* const to = row + kx - how.padding;
          const Inside there(how, kx, how.in_width, how.out_width);
          if (how.stride == 1)
            for (int64_t ox = there.begin; ox < there.end; ++ox) to[ox] += from[ox];
          else
            for (int64_t ox = there.begin; ox < there.end; ++ox) to[ox * how.stride] += from[ox];
        }
      }
    });
  });
}

}  // namespace rondo
