// The one way to report bad input: check(ok, parts...) throws rondo::Error with the parts joined into one line.
#pragma once
#include <sstream>
#include <stdexcept>

namespace rondo {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Parts>
[[noreturn]] [[gnu::cold]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

// The parts are only turned into text when the check fails.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail(parts...);
}

}  // namespace rondo
