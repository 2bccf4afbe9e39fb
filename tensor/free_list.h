// Small records that come and go with every op: kept in a list and used again, so that a warm step asks malloc for
// nothing.
#pragma once
#include <atomic>
#include <new>

namespace rondo {

template <class T>
class FreeList {
 public:
  T* take() {
    lock();
    Node* node = head_;
    if (node) head_ = node->next;
    unlock();
    return new (node ? static_cast<void*>(node) : ::operator new(sizeof(Node))) T;
  }
  void give(T* t) {
    t->~T();
    Node* node = reinterpret_cast<Node*>(t);
    lock();
    node->next = head_;
    head_ = node;
    unlock();
  }

 private:
  union Node {
    Node* next;
    alignas(T) unsigned char memory[sizeof(T)];
  };
  void lock() {
    while (busy_.test_and_set(std::memory_order_acquire)) {
    }
  }
  void unlock() { busy_.clear(std::memory_order_release); }

  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  Node* head_ = nullptr;
};

}  // namespace rondo
