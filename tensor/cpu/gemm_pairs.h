// Products of bf16 by the instructions that processors have for them: two neighbours in k are a pair, whose products
// are added to a sum in f32 at once. The same form as in gemm.h; which instructions there are is found out at run time.
#pragma once
#include <span>
#include <type_traits>

#include "tensor/cpu/gemm.h"

namespace rondo::cpu::pairs {

// AVX512-BF16 multiplies registers of pairs, AMX tiles of them.
enum class Instructions { none, avx512, amx };
// What the processor has, best last; and what is used of it, the best unless tests or measurements choose another.
std::span<const Instructions> found_instructions();
Instructions instructions();
void use_instructions(Instructions one_of_those_found);
inline bool available() { return instructions() != Instructions::none; }

// Columns of a panel: two tiles, or two registers. Tiles make kRowStep rows of C at a time.
inline constexpr int64_t kPanelColumns = 32, kRowStep = 32;
// Rows of pairs in packed_size(k, n): rows of padded(n) pairs, 4 bytes each.
int64_t depth(int64_t k);

// Whether rows of A, of k numbers, are read well where they lie; else they are copied to rows of row_length(k) numbers,
// packed_k(k) of which take part in the products: A's, then zeros.
bool readable(int64_t k, View<bf16> a);
int64_t packed_k(int64_t k);
int64_t row_length(int64_t k);
void pack_rows(int64_t m, int64_t k, View<bf16> a, bf16* to);

template <class S>
void pack_panels(int64_t k, int64_t n, View<S> b, float* packed, int64_t first_panel, int64_t last_panel);
void gemm_packed(int64_t m, int64_t n, int64_t k, View<bf16> a, const float* packed_b, float* c, int64_t ldc,
                 bool accumulate, const Part& part);

}  // namespace rondo::cpu::pairs

namespace rondo::cpu {

// Whether these products are left to the processor's own instructions for bf16. Where there are none, bf16 is widened.
template <class E>
bool in_pairs() {
  return std::is_same_v<E, bf16> && pairs::available();
}

}  // namespace rondo::cpu
