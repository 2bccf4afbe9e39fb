// Files that are never half there: written beside their place, synced, renamed. Reading says what went wrong in one
// line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rondo {

// The whole file; throws Error "cannot read PATH: reason".
std::string read_file(const std::string& path);
// Replaces the file at once. After an error (a full disk) the old one is still there, and nothing else is left behind.
void write_file(const std::string& path, std::string_view contents);
// Makes a directory's entries durable after a rename.
void sync_directory(const std::string& path);

// write_file in pieces: nothing is seen under `path` before commit(). Without it, or after an error, nothing stays.
class FileWriter {
 public:
  explicit FileWriter(const std::string& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t n);
  void commit();

 private:
  std::string path_, target_, temporary_;  // as given, where its symbolic links lead, and beside that
  int file_ = -1;
};

// A file that grows at its end, for as long as this lives. What is written can be read at once, by others too.
class FileAppender {
 public:
  explicit FileAppender(const std::string& path);
  ~FileAppender();
  FileAppender(const FileAppender&) = delete;
  FileAppender& operator=(const FileAppender&) = delete;

  void write(std::string_view text);
  void sync();  // durable on return

 private:
  std::string path_;
  int file_ = -1;
};

// A directory that one process at a time has, for as long as this lives or the process does. Throws Error where another
// has it. File systems without locks refuse nobody.
class DirectoryLock {
 public:
  explicit DirectoryLock(const std::string& path);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int directory_ = -1;
};

// A regular file, read in pieces from any place.
class FileReader {
 public:
  explicit FileReader(const std::string& path);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  uint64_t size() const { return size_; }
  void read(uint64_t at, void* to, size_t n) const;

 private:
  std::string path_;
  int file_ = -1;
  uint64_t size_ = 0;
};

}  // namespace rondo
