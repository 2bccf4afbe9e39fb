// One seed, several independent streams of random numbers: drawing more from one changes nothing in another.
#pragma once
#include <cstdint>

namespace rondo::stream {

inline constexpr uint64_t init = 0, data = 1, dropout = 2, sampling = 3;

}  // namespace rondo::stream
