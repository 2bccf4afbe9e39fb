// Matrix products on one thread, on plain pointers: what the gemm kernel splits over the threads, and what attention
// calls on its tiles. Each element of C is one sum in the order of k (in blocks), whatever the sizes of m and n:
// cutting C into tiles changes no bit.
#pragma once
#include <cstdint>

namespace rondo::cpu {

// A matrix in memory: element (i, j) is data[i * row + j * col]. Transposing swaps the strides.
template <class T>
struct View {
  const T* data;
  int64_t row, col;
};

// B [k, n] rearranged for the inner loop, once for many products: panels of panel_columns() columns, the last one zero-
// padded. `pack` fills packed_size(k, n) elements, 64-byte aligned; pack_panels does some of the panels, so that
// threads can share the work.
template <class T>
int64_t panel_columns();
template <class T>
int64_t packed_size(int64_t k, int64_t n);
template <class T>
void pack(int64_t k, int64_t n, View<T> b, T* packed);
template <class T>
void pack_panels(int64_t k, int64_t n, View<T> b, T* packed, int64_t first_panel, int64_t last_panel);

// C [m, n] (rows ldc apart) = A B, or C += A B.
template <class T>
void gemm(int64_t m, int64_t n, int64_t k, View<T> a, View<T> b, T* c, int64_t ldc, bool accumulate);
// The same with B [k, n] packed, for a part of B: rows first..last-1, and the columns of panels first_panel..
// last_panel-1. A is [m, last - first]; c points to the whole C.
struct Part {
  int64_t first, last, first_panel, last_panel;
};
template <class T>
void gemm_packed(int64_t m, int64_t n, int64_t k, View<T> a, const T* packed_b, T* c, int64_t ldc, bool accumulate,
                 const Part& part);

}  // namespace rondo::cpu
