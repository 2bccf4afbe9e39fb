// A bump allocator: memory handed out in order and taken back all at once; its chunks are kept for the next round.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace rondo {

class Arena {
 public:
  // `bytes` of uninitialised memory, aligned to 64 bytes.
  void* allocate(size_t bytes) {
    bytes = (bytes + 63) & ~size_t{63};
    while (chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].bytes) ++chunk_, used_ = 0;
    if (chunk_ == chunks_.size()) {
      const size_t size = bytes > kChunk ? bytes : kChunk;
      chunks_.push_back({std::unique_ptr<std::byte[]>(new std::byte[size + 64]), size});
      used_ = 0;
    }
    const uintptr_t base = (uintptr_t(chunks_[chunk_].memory.get()) + 63) & ~uintptr_t{63};
    used_ += bytes;
    return reinterpret_cast<void*>(base + used_ - bytes);
  }

  struct Mark {
    size_t chunk = 0, used = 0;
  };
  Mark mark() const { return {chunk_, used_}; }
  // Takes back everything handed out since the mark.
  void rewind(Mark m) { chunk_ = m.chunk, used_ = m.used; }

 private:
  static constexpr size_t kChunk = size_t{1} << 18;
  struct Chunk {
    std::unique_ptr<std::byte[]> memory;
    size_t bytes;
  };
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0, used_ = 0;
};

}  // namespace rondo
