// The host's memory, as the allocator and the copies between devices ask for it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tensor/kernels.h"

namespace rondo {

void* request_memory(Cpu, size_t bytes) {
  constexpr size_t kHuge = size_t{2} << 20;  // a huge page
  void* p = nullptr;
  if (posix_memalign(&p, bytes < kHuge ? 64 : kHuge, bytes) != 0) return nullptr;
  if (bytes >= kHuge) madvise(p, bytes / kHuge * kHuge, MADV_HUGEPAGE);
  return p;
}
void return_memory(Cpu, void* memory) { std::free(memory); }
size_t free_memory(Cpu) { return size_t(sysconf(_SC_AVPHYS_PAGES)) * size_t(sysconf(_SC_PAGESIZE)); }
void fill_bytes(Cpu, int byte, void* memory, size_t bytes) { std::memset(memory, byte, bytes); }
void copy_to_host(Cpu, const void* from, void* to, size_t bytes) { std::memcpy(to, from, bytes); }
void copy_from_host(Cpu, const void* from, void* to, size_t bytes) { std::memcpy(to, from, bytes); }

}  // namespace rondo
