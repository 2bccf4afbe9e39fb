// What is wrong with a file of JSON, in words.
#pragma once
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>

#include "tensor/check.h"

namespace rondo {

// The library's message without the number it begins with.
inline std::string json_error(const nlohmann::json::exception& e) {
  const std::string text = e.what();
  const size_t at = text.find("] ");
  return at == text.npos ? text : text.substr(at + 2);
}

// A whole number of a file in a range, called `what` where it is none; the library would cut off fractions and turn
// what is too large into something else.
template <class T, class Json>
T whole(const Json& j, const std::string& what, T least = std::numeric_limits<T>::min(),
        T most = std::numeric_limits<T>::max()) {
  bool inside = j.is_number_integer();
  if (inside && j.is_number_unsigned())
    inside =
        j.template get<uint64_t>() <= uint64_t(most) && (least <= 0 || j.template get<uint64_t>() >= uint64_t(least));
  else if (inside)
    inside = std::is_signed_v<T> && j.template get<int64_t>() >= int64_t(least);
  check(inside, what, " is ", j.dump(), ", but must be a whole number from ", least, " to ", most);
  return j.template get<T>();
}

}  // namespace rondo
