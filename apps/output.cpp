#include "apps/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>

namespace rondo {
namespace {

int error = 0;  // the first one: a stream keeps only that there was one

}  // namespace

void flush_output() {
  errno = 0;
  std::cout.flush();
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) || !std::cout;
  if (failed && error == 0) error = errno ? errno : EIO;
}

std::string output_error() { return error == 0 || error == EPIPE ? "" : std::strerror(error); }

}  // namespace rondo
