// Files that are never half there: written beside their place, synced, renamed. Reading says what went wrong in one line.
#pragma once
#include <string>
#include <string_view>

namespace rondo {

// The whole file; throws Error "cannot read PATH: reason".
std::string read_file(const std::string& path);
// Replaces the file at once. After an error (a full disk) the old one is still there, and nothing else is left behind.
void write_file(const std::string& path, std::string_view contents);
// Makes a directory's entries durable after a rename.
void sync_directory(const std::string& path);

}  // namespace rondo
