// cuBLASLt on the host, for tests: column-major products as plain loops, with the checks of the original. An algorithm
// only fits the problem it was chosen for, and memory aligned as the preference said. One that may add up in place sums
// in another order each time, as on a GPU; one that may keep parts in the type of the result rounds them to it.
#include "cuda/cublas.h"

#include <cstring>
#include <type_traits>
#include <vector>

#include "tensor/dtype.h"

struct EmulatedHandle {};
struct EmulatedProduct {
  cublasComputeType_t compute;
  cudaDataType_t scales;
  int32_t transpose_a, transpose_b;
};
struct EmulatedLayout {
  cudaDataType_t type;
  int64_t rows, columns, ld;
  int32_t batch;
  int64_t stride;
};
struct EmulatedPreference {
  uint64_t workspace;
  uint32_t reductions;
};

namespace {

using rondo::bf16, rondo::computed_t;

constexpr uint64_t kWorkspaceNeeded = 4096;
constexpr size_t kAlignment = 256;  // what a preference asks for unless it says otherwise

cublasStatus_t set(void* field, size_t size, const void* value, size_t bytes) {
  if (bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// The types that go together, of those that are used here.
bool supported(const EmulatedProduct& p, cudaDataType_t a, cudaDataType_t b, cudaDataType_t c) {
  if (a != b) return false;
  if (p.compute == CUBLAS_COMPUTE_64F) return p.scales == CUDA_R_64F && a == CUDA_R_64F && c == CUDA_R_64F;
  if (p.scales != CUDA_R_32F) return false;
  if (a == CUDA_R_16BF) return p.compute == CUBLAS_COMPUTE_32F && c != CUDA_R_64F;
  return a == CUDA_R_32F && c == CUDA_R_32F;
}

// Every number of a problem, or none where its sides do not fit.
std::vector<int64_t> problem(const EmulatedProduct& p, const EmulatedLayout& a, const EmulatedLayout& b,
                             const EmulatedLayout& c) {
  std::vector<int64_t> numbers = {p.compute, p.transpose_a, p.transpose_b};
  if (!supported(p, a.type, b.type, c.type)) return {};
  for (const EmulatedLayout* l : {&a, &b, &c}) {
    if (l->rows < 1 || l->columns < 1 || l->ld < l->rows || l->batch != c.batch || l->batch < 1) return {};
    numbers.insert(numbers.end(), {l->type, l->rows, l->columns, l->ld, l->batch, l->stride});
  }
  const bool ta = p.transpose_a == CUBLAS_OP_T, tb = p.transpose_b == CUBLAS_OP_T;
  const bool fit = (ta ? a.columns : a.rows) == c.rows && (tb ? b.rows : b.columns) == c.columns &&
                   (ta ? a.rows : a.columns) == (tb ? b.columns : b.rows);
  return fit ? numbers : std::vector<int64_t>();
}
uint64_t mixed(const std::vector<int64_t>& numbers) {
  uint64_t h = 0xcbf29ce484222325u;
  for (int64_t x : numbers) h = (h ^ uint64_t(x)) * 0x100000001b3u;
  return h;
}

// A number as it is multiplied: TF32 keeps 10 bits behind the first.
template <class X>
computed_t<X> operand(X x, [[maybe_unused]] bool tf32) {
  if constexpr (std::is_same_v<X, float>)
    if (tf32) return std::bit_cast<float>((std::bit_cast<uint32_t>(x) + 0x1000) & ~uint32_t{0x1fff});
  return computed_t<X>(x);
}

template <class X, class Y, class T = computed_t<X>>
void multiply(const EmulatedProduct& p, T alpha, const X* a, const EmulatedLayout& la, const X* b,
              const EmulatedLayout& lb, T beta, const Y* c, Y* d, const EmulatedLayout& lc, bool backwards,
              bool rounded_parts) {
  const bool ta = p.transpose_a == CUBLAS_OP_T, tb = p.transpose_b == CUBLAS_OP_T;
  const bool tf32 = p.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const int64_t depth = ta ? la.rows : la.columns;
  for (int64_t n = 0; n < lc.batch; ++n, a += la.stride, b += lb.stride, c += lc.stride, d += lc.stride)
    for (int64_t j = 0; j < lc.columns; ++j)
      for (int64_t i = 0; i < lc.rows; ++i) {
        T sum = 0;
        for (int64_t s = 0; s < depth; ++s) {
          const int64_t k = backwards ? depth - 1 - s : s;
          sum += operand(ta ? a[k + i * la.ld] : a[i + k * la.ld], tf32) *
                 operand(tb ? b[j + k * lb.ld] : b[k + j * lb.ld], tf32);
          if (rounded_parts) sum = T(Y(sum));
        }
        const int64_t at = i + j * lc.ld;
        d[at] = Y(beta == 0 ? alpha * sum : alpha * sum + beta * T(c[at]));  // with 0, what was there is not read
      }
}

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static EmulatedHandle one;
  *handle = &one;
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "an argument is invalid" : "not supported";
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* p, cublasComputeType_t compute, cudaDataType_t scales) {
  *p = new EmulatedProduct{compute, scales, CUBLAS_OP_N, CUBLAS_OP_N};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t p, cublasLtMatmulDescAttributes_t what,
                                              const void* value, size_t bytes) {
  return set(what == CUBLASLT_MATMUL_DESC_TRANSA ? &p->transpose_a : &p->transpose_b, 4, value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* l, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  *l = new EmulatedLayout{type, int64_t(rows), int64_t(columns), ld, 1, 0};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t what,
                                                const void* value, size_t bytes) {
  return what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? set(&l->batch, 4, value, bytes)
                                                    : set(&l->stride, 8, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* p) {
  *p = new EmulatedPreference{0, 7};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void* value,
                                                    size_t bytes) {
  return what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? set(&p->workspace, 8, value, bytes)
                                                          : set(&p->reductions, 4, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  delete p;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t p, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t* result, int* found) {
  const std::vector<int64_t> numbers = problem(*p, *a, *b, *c);
  if (numbers.empty() || c != d) return CUBLAS_STATUS_INVALID_VALUE;
  if (preference->workspace < kWorkspaceNeeded) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool in_place = preference->reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE;
  const bool rounded_parts = preference->reductions & CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
  *result = {{{mixed(numbers), in_place, rounded_parts}}, kWorkspaceNeeded};
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t p, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t la, const void* b, cublasLtMatrixLayout_t lb, const void* beta,
                              const void* c, cublasLtMatrixLayout_t lc, void* d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t) {
  static unsigned calls = 0;
  const std::vector<int64_t> numbers = problem(*p, *la, *lb, *lc);
  if (numbers.empty() || lc != ld || !workspace || workspace_bytes < kWorkspaceNeeded ||
      algorithm->data[0] != mixed(numbers))
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const void* pointer : {a, b, c, static_cast<const void*>(d), static_cast<const void*>(workspace)}) {
    emulation::check_pointer(pointer, emulation::Where::current());
    if (reinterpret_cast<uintptr_t>(pointer) % kAlignment) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool in_place = algorithm->data[1], rounded_parts = algorithm->data[2];
  const auto run = [&]<class X, class Y>(X, Y) {
    using T = computed_t<X>;
    T one, keep;
    std::memcpy(&one, alpha, sizeof one), std::memcpy(&keep, beta, sizeof keep);
    const void* const pointers[] = {a, b, c, d, workspace};
    emulation::submit(emulation::Where::current(), pointers, [=, p = *p, la = *la, lb = *lb, lc = *lc] {
      if (emulation::listing())
        return emulation::list("product " + std::to_string(lc.columns) + " " + std::to_string(lc.rows) + " " +
                               std::to_string(p.transpose_a == CUBLAS_OP_T ? la.rows : la.columns) + ", " +
                               std::to_string(lc.batch) + " of " + std::to_string(8 * sizeof(X)) + " bits");
      multiply(p, one, static_cast<const X*>(a), la, static_cast<const X*>(b), lb, keep, static_cast<const Y*>(c),
               static_cast<Y*>(d), lc, in_place && ++calls % 2, rounded_parts);
    });
  };
  if (la->type == CUDA_R_64F) run(double(), double());
  if (la->type == CUDA_R_32F) run(float(), float());
  if (la->type == CUDA_R_16BF) lc->type == CUDA_R_32F ? run(bf16(), float()) : run(bf16(), bf16());
  return CUBLAS_STATUS_SUCCESS;
}

namespace rondo::cuda {

const Cublas& cublas() {
  static const Cublas table = {cublasLtCreate,
                               cublasLtGetStatusString,
                               cublasLtMatmulDescCreate,
                               cublasLtMatmulDescSetAttribute,
                               cublasLtMatrixLayoutCreate,
                               cublasLtMatrixLayoutSetAttribute,
                               cublasLtMatmulPreferenceCreate,
                               cublasLtMatmulPreferenceSetAttribute,
                               cublasLtMatmulPreferenceDestroy,
                               cublasLtMatmulAlgoGetHeuristic,
                               cublasLtMatmul};
  return table;
}

}  // namespace rondo::cuda
