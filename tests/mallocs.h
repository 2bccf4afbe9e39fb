// How often this thread called malloc (or calloc, realloc, aligned_alloc) so far.
#pragma once
#include <cstdint>

namespace rondo::testing {

bool mallocs_are_counted();  // not in sanitizer builds
int64_t mallocs();

}  // namespace rondo::testing
