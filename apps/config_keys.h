// The one table of configuration keys: reading, writing, comparing and suggesting all go through it.
#pragma once
#include <string>
#include <variant>
#include <vector>

#include "apps/config.h"

namespace rondo {

using ConfigPlace =
    std::variant<int64_t*, double*, bool*, std::string*, std::vector<std::string>*, std::optional<int64_t>*,
                 std::optional<std::vector<int64_t>>*, std::optional<std::array<double, 2>>*>;

struct ConfigKey {
  std::string section, name;
  ConfigPlace place;  // in the RunConfig the table was made for
};

std::vector<ConfigKey> config_keys(RunConfig& config);

// The value as TOML has it.
std::string value_text(const ConfigPlace& place);
// What a value must be, for messages: "an integer".
std::string wanted_text(const ConfigPlace& place);

// "unknown key train.stepz; did you mean train.steps?"
[[noreturn]] void fail_unknown_key(const std::string& where, const std::string& section, const std::string& name);

}  // namespace rondo
