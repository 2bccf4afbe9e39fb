// Reading and writing whole files with POSIX calls: the standard streams tell neither the reason of an error nor sync.
#include "nn/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "tensor/check.h"

namespace rondo {
namespace {

[[noreturn]] void fail_reading(const std::string& path, int error) {
  fail("cannot read ", path, ": ", std::strerror(error));
}

[[noreturn]] void fail_writing(const std::string& path, int error) {
  fail("cannot write ", path, ": ", std::strerror(error));
}

// 0, or the error that stopped it.
int write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(file, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    bytes.remove_prefix(size_t(done));
  }
  return 0;
}

class Descriptor {
 public:
  explicit Descriptor(int file) : file_(file) {}
  ~Descriptor() {
    if (file_ >= 0) ::close(file_);
  }
  operator int() const { return file_; }

 private:
  int file_;
};

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

// Where a chain of symbolic links leads, be there a file or not.
std::string linked(const std::string& path) {
  std::filesystem::path at = path;
  std::error_code none;
  for (int links = 0; std::filesystem::is_symlink(at, none); ++links) {
    if (links == 40) fail_writing(path, ELOOP);
    at = at.parent_path() / std::filesystem::read_symlink(at, none);
  }
  return at.string();
}

}  // namespace

std::string read_file(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info;
  if (file < 0 || ::fstat(file, &info)) fail_reading(path, errno);
  std::string contents;
  size_t n = 0;
  for (;;) {  // to the end, not to the size: pipes and /proc have none
    if (n == contents.size()) contents.resize(n ? 2 * n : size_t(info.st_size) + 4096);
    const ssize_t got = ::read(file, contents.data() + n, contents.size() - n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_reading(path, errno);
    if (got == 0) break;
    n += size_t(got);
  }
  contents.resize(n);
  return contents;
}

void write_file(const std::string& path, std::string_view contents) {
  FileWriter file(path);
  file.write(contents.data(), contents.size());
  file.commit();
}

void sync_directory(const std::string& path) {
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // EINVAL: a file system that cannot sync directories.
  if (directory < 0 || (::fsync(directory) && errno != EINVAL)) fail("cannot sync ", path, ": ", std::strerror(errno));
}

FileWriter::FileWriter(const std::string& path) : path_(path), target_(linked(path)) {
  struct stat old;
  const bool exists = ::stat(path.c_str(), &old) == 0;
  if (exists) {
    if (S_ISDIR(old.st_mode)) fail_writing(path_, EISDIR);
    // A rename would put a file in the place of a device such as /dev/null.
    check(S_ISREG(old.st_mode), "cannot write ", path, ": not a regular file");
  }
  for (int i = 0; file_ < 0; ++i) {
    temporary_ = target_ + "." + std::to_string(::getpid()) + "-" + std::to_string(i) + ".tmp";
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file_ < 0 && errno != EEXIST) fail_writing(path_, errno);
  }
  if (exists) (void)!::fchmod(file_, old.st_mode & 0777);
}

FileWriter::~FileWriter() {
  if (file_ >= 0) {
    ::close(file_);
    ::unlink(temporary_.c_str());
  }
}

void FileWriter::write(const void* data, size_t n) {
  if (const int error = write_all(file_, {static_cast<const char*>(data), n})) fail_writing(path_, error);
}

void FileWriter::commit() {
  if (::fsync(file_) && errno != EINVAL) fail_writing(path_, errno);
  if (::rename(temporary_.c_str(), target_.c_str())) fail_writing(path_, errno);
  ::close(std::exchange(file_, -1));  // its bytes are on the disk: nothing is left that could fail
  sync_directory(directory_of(target_));
}

FileAppender::FileAppender(const std::string& path) : path_(path) {
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) fail_writing(path_, errno);
}

FileAppender::~FileAppender() { ::close(file_); }

void FileAppender::write(std::string_view text) {
  if (const int error = write_all(file_, text)) fail_writing(path_, error);
}

void FileAppender::sync() {
  if (::fsync(file_)) fail_writing(path_, errno);
  sync_directory(directory_of(path_));  // it may be new
}

DirectoryLock::DirectoryLock(const std::string& path) : directory_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (directory_ < 0) fail_reading(path, errno);
  if (::flock(directory_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(directory_);
  fail(path, ": another process is at work there; wait until it has ended");
}

DirectoryLock::~DirectoryLock() { ::close(directory_); }

FileReader::FileReader(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a pipe returns, and is then refused.
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info;
  const int error = file_ < 0 || ::fstat(file_, &info) ? errno : S_ISDIR(info.st_mode) ? EISDIR : 0;
  const bool regular = !error && S_ISREG(info.st_mode);
  if (!regular && file_ >= 0) ::close(file_);
  if (error) fail_reading(path, error);
  check(regular, "cannot read ", path, ": not a regular file");
  size_ = uint64_t(info.st_size);
}

FileReader::~FileReader() { ::close(file_); }

void FileReader::read(uint64_t at, void* to, size_t n) const {
  char* place = static_cast<char*>(to);
  while (n > 0) {
    const ssize_t got = ::pread(file_, place, n, off_t(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_reading(path_, errno);
    check(got > 0, "cannot read ", path_, ": it became shorter while it was read");
    place += got, at += uint64_t(got), n -= size_t(got);
  }
}

}  // namespace rondo
