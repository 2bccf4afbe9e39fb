// The lines of a file, or of stdin ("-"), as they are asked for: memory is that of one line.
#pragma once
#include <cstdio>
#include <optional>
#include <string>

namespace rondo {

class LineReader {
 public:
  explicit LineReader(const std::string& name);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // Without the line's end; none at the end of the file.
  std::optional<std::string> next();
  // Of the line read last, for messages: "prompts.txt:3".
  std::string place() const { return name_ + ":" + std::to_string(number_); }

 private:
  std::string name_;
  std::FILE* file_;
  char* line_ = nullptr;
  size_t room_ = 0;
  int64_t number_ = 0;
};

}  // namespace rondo
