// A JSON object a line, for programs that read what this one writes. Bytes that are no UTF-8 show as U+FFFD.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "apps/tokenizer.h"

namespace rondo {

inline std::string json_line(const nlohmann::ordered_json& j) {
  return j.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}
inline std::string token_line(const Tokenizer& tokenizer, int64_t token, double log_probability) {
  return json_line({{"token", token}, {"text", tokenizer.text_of(token)}, {"logprob", log_probability}});
}

}  // namespace rondo
