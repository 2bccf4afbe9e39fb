// Deterministic mutations of a valid file: the small part of fuzzing that every test run can afford.
#pragma once
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

namespace rondo::testing::fuzz {

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  // One to four changes: bits, bytes, digits, pieces cut out, doubled or moved, and the file cut off.
  std::string operator()(std::string file) {
    for (int n = 1 + below(4); n > 0; --n) change(file);
    return file;
  }

 private:
  int below(size_t n) { return int(random_() % std::max<size_t>(n, 1)); }

  void change(std::string& file) {
    if (file.empty()) file = "{";
    const size_t at = size_t(below(file.size())), length = 1 + size_t(below(std::min<size_t>(file.size() - at, 24)));
    switch (below(8)) {
      case 0:
        file[at] = char(file[at] ^ (1 << below(8)));
        break;
      case 1:
        file[at] = char(below(256));
        break;
      case 2:
        file[at] = "{}[]\",:0123456789-.eE \\/\0\xff"[below(26)];
        break;
      case 3:
        file.erase(at, length);
        break;
      case 4:
        file.insert(at, file.substr(at, length));
        break;
      case 5:
        file.insert(at, file.substr(size_t(below(file.size())), length));
        break;
      case 6:
        file.resize(at);
        break;
      default:
        change_digit(file, at);
        break;
    }
  }

  static constexpr const char* kNumbers[] = {
      "0", "1", "9", "-1", "4294967296", "9223372036854775807", "18446744073709551615"};
  void change_digit(std::string& file, size_t from) {
    const size_t at = file.find_first_of("0123456789", from);
    if (at != file.npos) file.replace(at, 1, kNumbers[below(std::size(kNumbers))]);
  }

  std::mt19937 random_;
};

}  // namespace rondo::testing::fuzz
