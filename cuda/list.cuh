// A short list as the argument of a kernel: no copy to the device, no wait for it, and a captured launch keeps it.
// Longer lists go in several launches.
#pragma once
#include <cstdint>

namespace rondo::cuda {

template <class Item>
struct List {
  static constexpr int kMost = 3584 / sizeof(Item);  // a kernel's arguments have 4 KB in all
  int n = 0;
  Item items[kMost] = {};  // whole: a debugger that looks for pointers in the arguments finds no old ones

  bool full() const { return n == kMost; }
  void add(const Item& item) { items[n++] = item; }
};

}  // namespace rondo::cuda
