// The one way to report bad input: check(ok, parts...) throws rondo::Error with the parts joined into one line.
#pragma once
#include <initializer_list>
#include <ostream>
#include <stdexcept>

namespace rondo {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A part of a message, and how it is written. The same for parts of all types, so that a message costs little code.
struct MessagePart {
  MessagePart(const char* text)
      : part(text), print([](std::ostream& out, const void* p) { out << static_cast<const char*>(p); }) {}
  template <class T>
  MessagePart(const T& x)
      : part(&x), print([](std::ostream& out, const void* p) { out << *static_cast<const T*>(p); }) {}

  const void* part;
  void (*print)(std::ostream& out, const void* part);
};
[[noreturn]] [[gnu::cold]] void fail_with(std::initializer_list<MessagePart> parts);

template <class... Parts>
[[noreturn]] [[gnu::cold]] void fail(const Parts&... parts) {
  fail_with({MessagePart(parts)...});
}

// The parts are only turned into text when the check fails.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail(parts...);
}

}  // namespace rondo
