// Counts the calls of malloc and its kin, for tests that promise none. Not in sanitizer builds, which bring
// their own malloc.
#include "tests/mallocs.h"

#include <atomic>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define RONDO_OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RONDO_OWN_MALLOC 0
#endif
#endif

#ifndef RONDO_OWN_MALLOC
namespace {
std::atomic<int64_t> calls = 0;  // of all threads
}
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) { return ++calls, __libc_malloc(n); }
void* calloc(size_t n, size_t size) { return ++calls, __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { return ++calls, __libc_realloc(p, n); }
void* aligned_alloc(size_t alignment, size_t n) { return ++calls, __libc_memalign(alignment, n); }
}
namespace rondo::testing {
bool mallocs_are_counted() { return true; }
int64_t mallocs() { return calls; }
}  // namespace rondo::testing
#else
namespace rondo::testing {
bool mallocs_are_counted() { return false; }
int64_t mallocs() { return 0; }
}  // namespace rondo::testing
#endif
