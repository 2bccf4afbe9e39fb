// The types an element can have, and the bridges from a run-time dtype to a C++ type.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <type_traits>

#include "check.h"
#include "device.h"

namespace rondo {

enum class DType : uint8_t { f32, f64, bf16, i32, i64, u8, i8 };

// The upper half of an f32. Conversion rounds to nearest even and keeps NaN a NaN.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  RONDO_ANYWHERE explicit bf16(float x) {
    const uint32_t u = std::bit_cast<uint32_t>(x);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? uint16_t((u >> 16) | 0x40) : uint16_t((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
  }
  RONDO_ANYWHERE explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

// The type in which sums and functions of a T are computed: f32 for bf16, else T.
template <class T>
using computed_t = std::conditional_t<std::is_same_v<T, bf16>, float, T>;
// bf16 becomes another number by way of f32, everything else directly.
template <class To, class From>
RONDO_ANYWHERE To converted(From x) {
  return To(computed_t<To>(computed_t<From>(x)));
}

template <class T>
inline constexpr DType dtype_of = [] { static_assert(sizeof(T) == 0, "no such dtype"); }();
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<bf16> = DType::bf16;
template <>
inline constexpr DType dtype_of<int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<uint8_t> = DType::u8;
template <>
inline constexpr DType dtype_of<int8_t> = DType::i8;

constexpr size_t size_of(DType d) {
  switch (d) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::bf16:
      return 2;
    case DType::u8:
    case DType::i8:
      return 1;
  }
  return 0;
}

constexpr const char* name_of(DType d) {
  constexpr const char* names[] = {"f32", "f64", "bf16", "i32", "i64", "u8", "i8"};
  return names[int(d)];
}
inline std::ostream& operator<<(std::ostream& os, DType d) { return os << name_of(d); }

constexpr bool is_float(DType d) { return d == DType::f32 || d == DType::f64 || d == DType::bf16; }

// Calls f.operator()<T>() with the C++ type of a dtype that ops compute in (f32 or f64).
template <class F>
decltype(auto) dispatch_float(DType d, F&& f) {
  if (d == DType::f32) return f.template operator()<float>();
  check(d == DType::f64, "computing needs f32 or f64, not ", d);
  return f.template operator()<double>();
}

// The same for what activations may be: f32, f64, or bf16, whose sums and curves are computed in f32.
template <class F>
decltype(auto) dispatch_activation(DType d, F&& f) {
  if (d == DType::bf16) return f.template operator()<bf16>();
  return dispatch_float(d, f);
}

// The same for every dtype, in a kernel too.
template <class F>
constexpr decltype(auto) dispatch_any(DType d, F&& f) {
  switch (d) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::i32:
      return f.template operator()<int32_t>();
    case DType::i64:
      return f.template operator()<int64_t>();
    case DType::u8:
      return f.template operator()<uint8_t>();
    case DType::i8:
      break;
  }
  return f.template operator()<int8_t>();
}

}  // namespace rondo
