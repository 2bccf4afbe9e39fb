#include "cuda/cublas.h"

#include <dlfcn.h>

#include <string>

#include "tensor/check.h"

namespace rondo::cuda {
namespace {

void* open_library() {
  std::string why;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    why += std::string(why.empty() ? "" : "; ") + dlerror();
  }
  fail("CUDA: matrix products need cuBLAS 13 or 12, which could not be opened (", why,
       "); install it, or name its folder in LD_LIBRARY_PATH, or use the device cpu");
}

template <class F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  check(function, "CUDA: cuBLAS has no function ", name, "; install cuBLAS 13 or 12");
}

Cublas open() {
  void* const library = open_library();
  Cublas c;
  find(library, "cublasLtCreate", c.create);
  find(library, "cublasLtGetStatusString", c.status_string);
  find(library, "cublasLtMatmulDescCreate", c.product_create);
  find(library, "cublasLtMatmulDescSetAttribute", c.product_set);
  find(library, "cublasLtMatrixLayoutCreate", c.layout_create);
  find(library, "cublasLtMatrixLayoutSetAttribute", c.layout_set);
  find(library, "cublasLtMatmulPreferenceCreate", c.preference_create);
  find(library, "cublasLtMatmulPreferenceSetAttribute", c.preference_set);
  find(library, "cublasLtMatmulPreferenceDestroy", c.preference_destroy);
  find(library, "cublasLtMatmulAlgoGetHeuristic", c.choose);
  find(library, "cublasLtMatmul", c.multiply);
  return c;
}

}  // namespace

const Cublas& cublas() {
  static const Cublas opened = open();
  return opened;
}

}  // namespace rondo::cuda
