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

// What place (ky, kx) of all windows sees of a plane, [out_height, out_width].
template <class T>
void place(const Windows& how, int64_t ky, int64_t kx, const T* plane, T* out) {
  const Inside rows(how, ky, how.in_height, how.out_height), columns(how, kx, how.in_width, how.out_width);
  const int64_t width = how.out_width, n = columns.end - columns.begin;
  const auto seen = [&](int64_t oy) {
    return plane + (oy * how.stride + ky - how.padding) * how.in_width + columns.begin * how.stride + kx - how.padding;
  };
  std::fill(out, out + rows.begin * width, T(0));
  std::fill(out + rows.end * width, out + how.out_height * width, T(0));
  // Rows that lie as far apart in both are one, but for its zeros.
  const bool one_run = how.stride == 1 && width == how.in_width && rows.begin < rows.end && n > 0;
  if (one_run)
    std::copy_n(seen(rows.begin), (rows.end - rows.begin - 1) * width + n, out + rows.begin * width + columns.begin);
  for (int64_t oy = rows.begin; oy < rows.end; ++oy) {
    T* const row = out + oy * width;
    const T* const from = one_run || n == 0 ? nullptr : seen(oy);
    for (int64_t ox = 0; ox < columns.begin; ++ox) row[ox] = T(0);
    for (int64_t i = 0; from && i < n; ++i) row[columns.begin + i] = from[i * how.stride];
    for (int64_t ox = columns.end; ox < width; ++ox) row[ox] = T(0);
  }
}

}  // namespace

void unfold(Cpu, const Windows& how, const Tensor& x, const Tensor& columns) {
  dispatch_float(x.dtype(), [&]<class T>() {
    const int64_t places = how.height * how.width, size = how.out_height * how.out_width;
    for_rows(how.planes * places, size, [&](int64_t i) {
      const int64_t plane = i / places, ky = i % places / how.width, kx = i % how.width;
      place(how, ky, kx, x.data<T>() + plane * how.in_height * how.in_width, columns.data<T>() + i * size);
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
