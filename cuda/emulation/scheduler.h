// What the instructions of a warp (warp.cpp) ask of the scheduler.
#pragma once
#include <string>

#include "cuda/emulation/emulation.h"

namespace emulation {

// Ends the launch with an Error. Does not return.
void fail(const std::string& message);
// "thread 3 of block (0,0,0)", the one that runs; and "file:line".
std::string this_thread();
std::string text(Where where);
// A warp instruction: the last lane of the mask to arrive carries it out for all. `all` holds what each of them passed
// as `mine`.
using CarryOut = void (*)(unsigned mask, void* const* all);
void together(const char* what, unsigned mask, void* mine, Where where, CarryOut carry_out);

}  // namespace emulation
