// Memory that may not be touched, in builds for the address sanitizer; in others nothing. The sanitizer's own macros do
// nothing in a file that is not itself sanitized.
#pragma once
#include <cstddef>
#ifdef EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace emulation {

#ifdef EMULATION_ASAN
inline constexpr bool kForbids = true;
#else
inline constexpr bool kForbids = false;
#endif

inline void forbid([[maybe_unused]] const void* p, [[maybe_unused]] size_t bytes) {
#ifdef EMULATION_ASAN
  __asan_poison_memory_region(p, bytes);
#endif
}
inline void allow([[maybe_unused]] const void* p, [[maybe_unused]] size_t bytes) {
#ifdef EMULATION_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
}

inline bool is_forbidden([[maybe_unused]] const void* p) {
#ifdef EMULATION_ASAN
  return __asan_address_is_poisoned(p);
#else
  return false;
#endif
}

}  // namespace emulation
