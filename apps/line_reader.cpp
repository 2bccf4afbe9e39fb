#include "apps/line_reader.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "tensor/check.h"

namespace rondo {

LineReader::LineReader(const std::string& name)
    : name_(name), file_(name == "-" ? stdin : std::fopen(name.c_str(), "re")) {
  check(file_, "cannot read ", name, ": ", std::strerror(errno));
}

LineReader::~LineReader() {
  if (file_ != stdin) std::fclose(file_);
  std::free(line_);
}

std::optional<std::string> LineReader::next() {
  const ssize_t n = ::getline(&line_, &room_, file_);
  check(n >= 0 || !std::ferror(file_), "cannot read ", name_, ": ", std::strerror(errno));
  if (n < 0) return {};
  ++number_;
  return std::string(line_, size_t(line_[n - 1] == '\n' ? n - 1 : n));
}

}  // namespace rondo
