// Environment variables that a test needs set or unset; afterwards they are what they were.
#pragma once
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace rondo::testing {

class Environment {
 public:
  // These are unset.
  explicit Environment(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      const char* value = std::getenv(name.c_str());
      before_.emplace_back(name, value ? std::optional<std::string>(value) : std::nullopt);
      unset(name);
    }
  }
  ~Environment() {
    for (const auto& [name, value] : before_) value ? set(name, *value) : unset(name);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  void set(const std::string& name, const std::string& value) { setenv(name.c_str(), value.c_str(), 1); }
  void unset(const std::string& name) { unsetenv(name.c_str()); }

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

}  // namespace rondo::testing
