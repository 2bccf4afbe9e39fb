// Shape: the sizes of a tensor's dimensions, a small value kept inline (at most 6 of them).
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <ostream>

#include "check.h"

namespace rondo {

class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    for (int64_t d : dims) push_back(d);
  }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[axis(i)]; }
  int64_t& operator[](int i) { return dims_[axis(i)]; }
  const int64_t* begin() const { return dims_; }
  const int64_t* end() const { return dims_ + rank_; }
  int64_t back() const { return (*this)[-1]; }

  // Number of elements: the product of the dimensions, 1 for the empty shape ().
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t d : *this) n *= d;
    return n;
  }

  // Whether nothing overflows that is counted in elements, strides beside a 0 included.
  bool is_countable() const {
    int64_t n = 1;
    for (int64_t d : *this)
      if (d > 0 && __builtin_mul_overflow(n, d, &n)) return false;
    return true;
  }

  // The index of an axis, where -1 is the last one.
  int axis(int i) const {
    const int a = i < 0 ? i + rank_ : i;
    check(a >= 0 && a < rank_, "axis ", i, " is out of range for shape ", *this);
    return a;
  }

  void push_back(int64_t d) {
    check(rank_ < kMaxRank, "a shape has at most ", kMaxRank, " dimensions");
    check(d >= 0, "a dimension cannot be ", d);
    dims_[rank_++] = d;
  }
  void pop_back() { --rank_; }

  // The same shape without one dimension, or with it replaced.
  Shape without(int i) const {
    Shape s;
    for (int k = 0; k < rank_; ++k)
      if (k != axis(i)) s.push_back(dims_[k]);
    return s;
  }
  Shape with(int i, int64_t d) const {
    Shape s = *this;
    s[i] = d;
    return s;
  }

  friend bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }
  friend std::ostream& operator<<(std::ostream& os, const Shape& s) {
    os << '(';
    for (int i = 0; i < s.rank_; ++i) os << (i ? ", " : "") << s.dims_[i];
    return os << ')';
  }

 private:
  int64_t dims_[kMaxRank] = {};
  int rank_ = 0;
};

}  // namespace rondo
