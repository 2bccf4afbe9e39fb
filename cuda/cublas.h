// cuBLASLt, opened when the first product asks for it: a program that needs no GPU starts without its 500 MB, and runs
// where it is not installed. The functions in this table are all that is used of it.
#pragma once
#ifdef __CUDACC__
#include <cublasLt.h>
#else
#include "cuda/emulation/cublasLt.h"
#endif

namespace rondo::cuda {

struct Cublas {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtMatmulDescCreate) product_create;
  decltype(&cublasLtMatmulDescSetAttribute) product_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose;
  decltype(&cublasLtMatmul) multiply;
};

// Throws Error with one line when there is no such library.
const Cublas& cublas();

}  // namespace rondo::cuda
