// stdout: why something could not be written is known when it fails, and told when the program ends.
#pragma once
#include <string>

namespace rondo {

// Writes what printf and std::cout hold back.
void flush_output();

// Why not everything could be written; empty if it was, or if nobody reads it any more (a closed pipe).
std::string output_error();

}  // namespace rondo
