#include "cuda/cublas.h"

#include "cuda/library.h"

namespace rondo::cuda {
namespace {

Cublas open() {
  const Library library({"libcublasLt.so.13", "libcublasLt.so.12"}, "matrix products", "cuBLAS 13 or 12",
                        "use the device cpu");
  Cublas c;
  library.find("cublasLtCreate", c.create);
  library.find("cublasLtGetStatusString", c.status_string);
  library.find("cublasLtMatmulDescCreate", c.product_create);
  library.find("cublasLtMatmulDescSetAttribute", c.product_set);
  library.find("cublasLtMatrixLayoutCreate", c.layout_create);
  library.find("cublasLtMatrixLayoutSetAttribute", c.layout_set);
  library.find("cublasLtMatmulPreferenceCreate", c.preference_create);
  library.find("cublasLtMatmulPreferenceSetAttribute", c.preference_set);
  library.find("cublasLtMatmulPreferenceDestroy", c.preference_destroy);
  library.find("cublasLtMatmulAlgoGetHeuristic", c.choose);
  library.find("cublasLtMatmul", c.multiply);
  return c;
}

}  // namespace

const Cublas& cublas() {
  static const Cublas opened = open();
  return opened;
}

}  // namespace rondo::cuda
