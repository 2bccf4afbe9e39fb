// Errors in what the user asked for, as opposed to what went wrong while doing it: the program exits with 2, not 1.
#pragma once
#include <filesystem>
#include <string>
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

// What is at `path` stays, unless it is empty or what will be there: `read` reads it without an Error.
template <class F>
void check_replaceable(const std::string& path, const char* kind, const char* option, F&& read) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(path, none) || std::filesystem::file_size(path, none) == 0) return;
  try {
    read();
  } catch (const Error&) {
    throw UsageError(path + ": there is something already that is no " + kind + "; choose another " + option);
  }
}

}  // namespace rondo
