// Libraries that are opened when they are first needed, so that a program starts without them.
#pragma once
#include <dlfcn.h>

#include <initializer_list>
#include <string>

#include "tensor/check.h"

namespace rondo::cuda {

class Library {
 public:
  // The first of `names` that is there. Throws Error with one line where none is: "CUDA: WHAT need LIBRARY, which could
  // not be opened (why); install it, or ..., or INSTEAD".
  Library(std::initializer_list<const char*> names, const char* what, const char* library, const char* instead)
      : library_(library) {
    std::string why;
    for (const char* name : names) {
      if ((opened_ = dlopen(name, RTLD_NOW | RTLD_LOCAL))) return;
      why += std::string(why.empty() ? "" : "; ") + dlerror();
    }
    fail("CUDA: ", what, " need ", library, ", which could not be opened (", why,
         "); install it, or name its folder in LD_LIBRARY_PATH, or ", instead);
  }

  template <class F>
  void find(const char* name, F& function) const {
    function = reinterpret_cast<F>(dlsym(opened_, name));
    check(function, "CUDA: the library that was opened has no function ", name, "; install ", library_);
  }

 private:
  const char* library_;
  void* opened_ = nullptr;  // never closed
};

}  // namespace rondo::cuda
