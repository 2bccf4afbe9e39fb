// Files: whole or not at all, and one clear line for everything that goes wrong.
#include "nn/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "nn/safetensors.h"
#include "tests/temporary.h"
#include "tests/testing.h"

namespace rondo::testing {
namespace {

// While it lives, no file of this process grows past `bytes`: a full disk, as far as write() can tell.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit now{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_;
  void (*old_handler_)(int);
};

std::string error_of_write(const std::string& path, const std::string& contents = "new") {
  return error_of([&] { write_file(path, contents); });
}
std::string error_of_read(const std::string& path) {
  return error_of([&] { read_file(path); });
}
mode_t mode_of(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) ? 0 : info.st_mode & 0777;
}

}  // namespace

TEST_CASE("file: what is written is read") {
  const Temporary place;
  for (const size_t n : {0, 1, 4096, 100'000}) {
    std::string text(n, 'x');
    if (n) text[n / 2] = '\0';
    write_file(place / "a", text);
    CHECK(read_file(place / "a") == text);
  }
  CHECK(place.names() == std::vector<std::string>{"a"});
}

TEST_CASE("file: a full disk leaves the old file and nothing else") {
  const Temporary place;
  write_file(place / "a", "old");
  {
    const FullDisk disk(100);
    CHECK(error_of_write(place / "a", std::string(101, 'x')) == "cannot write " + (place / "a") + ": File too large");
    CHECK(error_of_write(place / "b", std::string(5000, 'x')) == "cannot write " + (place / "b") + ": File too large");
    CHECK(error_of([&] {
            write_safetensors(place / "a", {{"w", zeros({1000}), true}});
          }) == "cannot write " + (place / "a") + ": File too large");
    CHECK(read_file(place / "a") == "old");
    CHECK(place.names() == std::vector<std::string>{"a"});
    write_file(place / "a", std::string(100, 'x'));
  }
  CHECK(read_file(place / "a") == std::string(100, 'x'));
}

TEST_CASE("file: a writer that is dropped leaves nothing") {
  const Temporary place;
  write_file(place / "a", "old");
  {
    FileWriter file(place / "a");
    file.write("half", 4);
    CHECK(place.names().size() == 2);
    CHECK(read_file(place / "a") == "old");
  }
  CHECK(place.names() == std::vector<std::string>{"a"});
  CHECK(read_file(place / "a") == "old");
}

TEST_CASE("file: two writers of one file do not mix") {
  const Temporary place;
  FileWriter one(place / "a"), two(place / "a");
  one.write("1", 1);
  two.write("22", 2);
  two.commit();
  CHECK(read_file(place / "a") == "22");
  one.commit();
  CHECK(read_file(place / "a") == "1");
  CHECK(place.names() == std::vector<std::string>{"a"});
}

TEST_CASE("file: what cannot be written") {
  const Temporary place;
  CHECK(error_of_write(place / "") == "cannot write " + (place / "") + ": Is a directory");
  CHECK(error_of_write(place / "no/a") == "cannot write " + (place / "no/a") + ": No such file or directory");
  CHECK(error_of_write("/dev/null") == "cannot write /dev/null: not a regular file");
  CHECK(error_of_write("") == "cannot write : No such file or directory");
  const std::string long_name = place / std::string(300, 'x');
  CHECK(error_of_write(long_name) == "cannot write " + long_name + ": File name too long");
  CHECK(place.names().empty());
}

TEST_CASE("file: the mode is kept, and a symbolic link stays one") {
  const Temporary place;
  write_file(place / "a", "old");
  ::chmod((place / "a").c_str(), 0640);
  REQUIRE(::symlink("a", (place / "link").c_str()) == 0);
  write_file(place / "link", "new");
  CHECK(read_file(place / "a") == "new");
  CHECK(mode_of(place / "a") == 0640);
  CHECK(place.names() == std::vector<std::string>{"a", "link"});
  struct stat info;
  REQUIRE(::lstat((place / "link").c_str(), &info) == 0);
  CHECK(S_ISLNK(info.st_mode));
}

TEST_CASE("file: a symbolic link to a file that is not there yet, to a link, to itself") {
  const Temporary place;
  std::filesystem::create_directory(place / "there");
  REQUIRE(::symlink("there/b", (place / "near").c_str()) == 0);
  REQUIRE(::symlink((place / "near").c_str(), (place / "far").c_str()) == 0);
  REQUIRE(::symlink("itself", (place / "itself").c_str()) == 0);
  REQUIRE(::symlink("none/b", (place / "lost").c_str()) == 0);
  write_file(place / "far", "text");
  CHECK(read_file(place / "there/b") == "text");
  CHECK(error_of_write(place / "itself") ==
        "cannot write " + (place / "itself") + ": Too many levels of symbolic links");
  CHECK(error_of_write(place / "lost") == "cannot write " + (place / "lost") + ": No such file or directory");
  CHECK(place.names() == std::vector<std::string>{"far", "itself", "lost", "near", "there"});
  for (const char* link : {"far", "itself", "lost", "near"}) CHECK(std::filesystem::is_symlink(place / link));
}

TEST_CASE("file: a directory that one process at a time has") {
  const Temporary place;
  {
    const DirectoryLock first(place / "");
    CHECK(error_of([&] { DirectoryLock(place / ""); }) ==
          (place / "") + ": another process is at work there; wait until it has ended");
  }
  CHECK(error_of([&] { DirectoryLock(place / ""); }) == "(no error)");
  CHECK(error_of([&] { DirectoryLock(place / "no"); }) ==
        "cannot read " + (place / "no") + ": No such file or directory");
}

TEST_CASE("file: what cannot be read") {
  const Temporary place;
  CHECK(error_of_read(place / "a") == "cannot read " + (place / "a") + ": No such file or directory");
  CHECK(error_of_read(place / "") == "cannot read " + (place / "") + ": Is a directory");
  write_file(place / "a", "text");
  CHECK(error_of_read(place / "a/b") == "cannot read " + (place / "a/b") + ": Not a directory");
  CHECK(error_of([&] { sync_directory(place / "no"); }) ==
        "cannot sync " + (place / "no") + ": No such file or directory");
  const FileReader reader(place / "a");
  char text[8];
  REQUIRE(::truncate((place / "a").c_str(), 2) == 0);
  CHECK(error_of([&] { reader.read(0, text, 4); }) ==
        "cannot read " + (place / "a") + ": it became shorter while it was read");
}

TEST_CASE("file: what is appended comes behind what is there, and can be read at once") {
  const Temporary place;
  write_file(place / "a", "old");
  FileAppender file(place / "a");
  file.write(" new");
  CHECK(read_file(place / "a") == "old new");
  file.sync();
  {
    const FullDisk disk(10);
    CHECK(error_of([&] { file.write(" and more"); }) == "cannot write " + (place / "a") + ": File too large");
  }
  CHECK(read_file(place / "a") == "old new an");
  CHECK(error_of([&] { FileAppender(place / "no/a"); }) ==
        "cannot write " + (place / "no/a") + ": No such file or directory");
}

TEST_CASE("file: permissions") {
  if (::geteuid() == 0) return skip("root may read and write everything");
  const Temporary place;
  write_file(place / "a", "text");
  ::chmod((place / "a").c_str(), 0);
  ::chmod((place / "").c_str(), 0500);
  CHECK(error_of_read(place / "a") == "cannot read " + (place / "a") + ": Permission denied");
  CHECK(error_of_write(place / "a") == "cannot write " + (place / "a") + ": Permission denied");
  ::chmod((place / "").c_str(), 0700);
}

TEST_CASE("file: files without a size are read to their end") {
  CHECK(read_file("/proc/self/status").starts_with("Name:"));
  CHECK(read_file("/dev/null").empty());
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const std::string text(10'000, 'y');
  REQUIRE(::write(ends[1], text.data(), text.size()) == ssize_t(text.size()));
  ::close(ends[1]);
  CHECK(read_file("/dev/fd/" + std::to_string(ends[0])) == text);
  ::close(ends[0]);
}

}  // namespace rondo::testing
