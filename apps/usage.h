// Errors in what the user asked for, as opposed to what went wrong while doing it: the program exits with 2, not 1.
#pragma once
#include <utility>

#include "tensor/check.h"

namespace rondo {

struct UsageError : Error {
  using Error::Error;
};

// Runs f; every Error it throws becomes a UsageError.
template <class F>
auto as_usage(F&& f) {
  try {
    return std::forward<F>(f)();
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

}  // namespace rondo
