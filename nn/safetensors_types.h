// The element types of a safetensors file, their widths, and how they become ours. Private to safetensors.cpp.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "tensor/dtype.h"

namespace rondo {

// IEEE 754's 16 bits.
struct Half {
  uint16_t bits;
  explicit operator float() const {
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const float size = exponent == 31  ? (fraction ? std::numeric_limits<float>::quiet_NaN() : INFINITY)
                       : exponent == 0 ? std::ldexp(float(fraction), -24)
                                       : std::ldexp(float(fraction + 1024), exponent - 25);
    return bits & 0x8000 ? -size : size;
  }
};

// Converts n elements; returns the index of the first whose value does not fit, or -1.
template <class From, class To>
int64_t convert_elements(const char* from, int64_t n, void* to) {
  for (int64_t i = 0; i < n; ++i) {
    From x;
    std::memcpy(&x, from + i * int64_t(sizeof(From)), sizeof(From));
    if constexpr (std::is_integral_v<From>)
      if (!std::in_range<To>(x)) return i;
    static_cast<To*>(to)[i] = To(x);
  }
  return -1;
}

struct SafetensorsType {
  std::string_view name;
  uint64_t width;                                                       // bytes of an element
  DType dtype;                                                          // that it is read as
  int64_t (*convert)(const char* from, int64_t n, void* to) = nullptr;  // null: the bytes are the same
  bool readable = true;
};

inline constexpr SafetensorsType kSafetensorsTypes[] = {
    {"F32", 4, DType::f32},
    {"F64", 8, DType::f64},
    {"BF16", 2, DType::bf16},
    {"I32", 4, DType::i32},
    {"I64", 8, DType::i64},
    {"U8", 1, DType::u8},
    {"I8", 1, DType::i8},
    {"BOOL", 1, DType::u8},
    {"F16", 2, DType::f32, convert_elements<Half, float>},
    {"I16", 2, DType::i32, convert_elements<int16_t, int32_t>},
    {"U16", 2, DType::i32, convert_elements<uint16_t, int32_t>},
    {"U32", 4, DType::i64, convert_elements<uint32_t, int64_t>},
    {"U64", 8, DType::i64, convert_elements<uint64_t, int64_t>},
    // Known, so that their sizes are checked, but without a type of ours.
    {"F8_E5M2", 1, DType::f32, nullptr, false},
    {"F8_E4M3", 1, DType::f32, nullptr, false},
    {"F8_E8M0", 1, DType::f32, nullptr, false},
    {"C64", 8, DType::f32, nullptr, false},
};

// The type of that name, or null.
inline const SafetensorsType* safetensors_type(std::string_view name) {
  for (const SafetensorsType& t : kSafetensorsTypes)
    if (t.name == name) return &t;
  return nullptr;
}

// The name under which a dtype is written: the first that is read back as it.
inline std::string_view safetensors_name(DType dtype) {
  for (const SafetensorsType& t : kSafetensorsTypes)
    if (t.dtype == dtype) return t.name;
  return {};
}

}  // namespace rondo
