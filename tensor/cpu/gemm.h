// Matrix products on one thread, on plain pointers: what the gemm kernel splits over the threads, and what attention
// calls on its tiles. Each element of C is one sum in the order of k (in blocks), whatever the sizes of m and n:
// cutting C into tiles changes no bit.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace rondo::cpu {

// A matrix in memory: element (i, j) is data[i * row + j * col]. Transposing swaps the strides.
template <class T>
struct View {
  const T* data;
  int64_t row, col;
};

// Products of numbers E: f32 and f64 in their own precision; bf16 with sums in f32. The sides of a product of bf16 may
// be given in f32 (S): they are rounded as they are read.
template <class E>
using Sum = computed_t<E>;

// B [k, n] rearranged for the inner loop, once for many products: panels of panel_columns() columns, the last one zero-
// padded. `pack` fills packed_size(k, n) numbers, 64-byte aligned, of which only the product knows what they hold;
// pack_panels does some of the panels, so that threads can share the work.
template <class E>
int64_t panel_columns();
// A product may begin at any column of B that is a multiple of this, which may be less than a panel: that keeps
// attention's tiles small.
template <class E>
int64_t column_step();
template <class E>
int64_t packed_size(int64_t k, int64_t n);
template <class E, class S>
void pack(int64_t k, int64_t n, View<S> b, Sum<E>* packed);
template <class E, class S>
void pack_panels(int64_t k, int64_t n, View<S> b, Sum<E>* packed, int64_t first_panel, int64_t last_panel);

// B ready to be read: packed; or in place, `row` numbers from row to row. Then only a last panel that ends within a
// register is packed.
template <class E>
struct Right {
  const Sum<E>* packed;
  const Sum<E>* plain = nullptr;
  int64_t row = 0;
};
// B in the form that serves a small product best. `space` holds packed_size(k, n) numbers, aligned as above.
template <class E, class S>
Right<E> right_side(int64_t k, int64_t n, View<S> b, Sum<E>* space);

// C [m, n] (rows ldc apart) = A B, or C += A B.
template <class E, class S>
void gemm(int64_t m, int64_t n, int64_t k, View<E> a, View<S> b, Sum<E>* c, int64_t ldc, bool accumulate);
// The same with B [k, n] prepared, for a part of B: rows first..last-1 and columns first_column..last_column-1, which
// begin and end at multiples of column_step() or at n. A is [m, last - first]; c points to the whole C. In products of
// bf16 `first` is a multiple of 32, and B's rows behind `last` hold finite numbers.
struct Part {
  int64_t first, last, first_column, last_column;
};
template <class E>
void gemm_part(int64_t m, int64_t n, int64_t k, View<E> a, Right<E> b, Sum<E>* c, int64_t ldc, bool accumulate,
               const Part& part);

}  // namespace rondo::cpu
