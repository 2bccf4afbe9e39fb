#include "cuda/library.h"

#include "tests/testing.h"

namespace rondo::testing {

TEST_CASE("library: what cannot be opened, or lacks a function, is said") {
  const auto open = [](const char* name) { return cuda::Library({name}, "products", "cuBLAS 13", "use --device cpu"); };
  CHECK(error_of([&] { open("libnone_of_rondo.so.1"); }) ==
        "CUDA: products need cuBLAS 13, which could not be opened (libnone_of_rondo.so.1: cannot open shared object "
        "file: No such file or directory); install it, or name its folder in LD_LIBRARY_PATH, or use --device cpu");
  void (*function)() = nullptr;
  CHECK(error_of([&] { open("libc.so.6").find("none_of_rondo", function); }) ==
        "CUDA: the library that was opened has no function none_of_rondo; install cuBLAS 13");
  open("libc.so.6").find("abort", function);
  CHECK((function != nullptr));
}

}  // namespace rondo::testing
