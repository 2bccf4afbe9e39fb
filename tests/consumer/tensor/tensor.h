// The program's own, under a name that Rondo has too.
#pragma once
inline constexpr int kExpected = 2;
