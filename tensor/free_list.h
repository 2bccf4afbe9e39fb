// Small records that come and go with every op: kept in a list and used again, so that a warm step asks malloc for
// nothing. Each thread has a list of its own, so that no thread waits for another. A thread that ends leaves its
// records to all, and so does one that is given many more than it takes.
#pragma once
#include <atomic>
#include <mutex>
#include <new>
#include <utility>

namespace rondo {

template <class T>
class FreeList {
 public:
  static T* take() {
    if (!mine.head && any_left.load(std::memory_order_relaxed)) take_left();
    void* const memory = mine.head ? mine.pop() : ::operator new(sizeof(Node));
    return new (memory) T;
  }
  static void give(T* t) {
    t->~T();
    if (mine.size == kMost) leave();
    mine.push(t);
    leave_at_end();
  }

 private:
  static constexpr int kMost = 4096, kTaken = 64;

  union Node {
    Node* next;
    alignas(T) unsigned char memory[sizeof(T)];
  };
  struct List {
    Node* head = nullptr;
    int size = 0;

    void push(void* memory) {
      head = new (memory) Node{head};
      ++size;
    }
    void* pop() {
      --size;
      return std::exchange(head, head->next);
    }
  };
  static void leave() {
    std::lock_guard lock(mutex);
    while (mine.head) left.push(mine.pop());
    any_left = left.head != nullptr;
  }
  static void take_left() {
    std::lock_guard lock(mutex);
    while (left.head && mine.size < kTaken) mine.push(left.pop());
    any_left = left.head != nullptr;
    leave_at_end();
  }
  static void leave_at_end() {
    struct End {
      ~End() { leave(); }
    };
    static thread_local const End of_this_thread;
  }

  static inline thread_local constinit List mine;
  static inline constinit List left;
  static inline std::mutex mutex;  // of what was left
  static inline std::atomic<bool> any_left = false;
};

}  // namespace rondo
