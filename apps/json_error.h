// What is wrong with a file of JSON, in words.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace rondo {

// The library's message without the number it begins with.
inline std::string json_error(const nlohmann::json::exception& e) {
  const std::string text = e.what();
  const size_t at = text.find("] ");
  return at == text.npos ? text : text.substr(at + 2);
}

}  // namespace rondo
