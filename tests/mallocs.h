// How often malloc (or calloc, realloc, aligned_alloc) was called so far, by any thread.
#pragma once
#include <cstdint>

namespace rondo::testing {

bool mallocs_are_counted();  // not in sanitizer builds
int64_t mallocs();

}  // namespace rondo::testing
