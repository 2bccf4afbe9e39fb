// Values by the identity of a tensor: open addressing in a power of two of places. What is kept and used again
// allocates nothing.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace rondo {

template <class T>
class IdMap {
 public:
  // The value under an identity, or null.
  T* find(uint64_t id) {
    if (table_.empty()) return nullptr;
    Place& p = table_[place(id)];
    return p.id ? &p.value : nullptr;
  }
  const T* find(uint64_t id) const { return const_cast<IdMap*>(this)->find(id); }
  // The same, made where there is none.
  T& operator[](uint64_t id) {
    if (size_t(n_) * 2 >= table_.size()) {
      std::vector<Place> old(std::max<size_t>(64, table_.size() * 2));
      old.swap(table_);
      for (Place& p : old)
        if (p.id) table_[place(p.id)] = std::move(p);
    }
    Place& p = table_[place(id)];
    if (p.id == 0) p.id = id, ++n_;
    return p.value;
  }
  void clear() {
    if (n_ == 0) return;
    for (Place& p : table_) p = {};
    n_ = 0;
  }
  int size() const { return n_; }

 private:
  struct Place {
    uint64_t id = 0;  // 0: free
    T value = {};
  };
  size_t place(uint64_t id) const {
    size_t i = size_t(id * 0x9E3779B97F4A7C15u) & (table_.size() - 1);
    while (table_[i].id != 0 && table_[i].id != id) i = (i + 1) & (table_.size() - 1);
    return i;
  }
  std::vector<Place> table_;
  int n_ = 0;
};

}  // namespace rondo
