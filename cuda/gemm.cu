// Matrix products by cuBLASLt. It takes matrices for column-major: what lies in rows here is its transpose there. So it
// is asked for C^T = op(B)^T op(A)^T, and A and B change places.
#include <array>
#include <map>
#include <mutex>

#include "cuda/cublas.h"
#include "cuda/launch.cuh"

namespace rondo {
namespace {

using namespace cuda;

void checked(cublasStatus_t status, const char* call) {
  check(status == CUBLAS_STATUS_SUCCESS, "CUDA: ", call, ": ", cublas().status_string(status));
}

constexpr size_t kWorkspace = size_t{32} << 20;

// One handle and one workspace, for the one stream there is. They live as long as the program.
struct Context {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;

  Context() {
    workspace = request_memory(Cuda{}, kWorkspace);
    check(workspace, "CUDA: no memory is left for the ", kWorkspace, " bytes that matrix products work in");
    checked(cublas().create(&handle), "cublasLtCreate");
  }
};
const Context& context() {
  static const Context opened;
  return opened;
}

// Products of one shape, as cuBLASLt wants them described, and the algorithm for them.
struct Plan {
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

// Of the numbers that are multiplied and of the results. Sums are f32, or f64 for f64.
struct Types {
  DType operands, results;
  bool tf32;

  cublasComputeType_t compute() const {
    if (operands == DType::f64) return CUBLAS_COMPUTE_64F;
    return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  }
};
cudaDataType_t type_of(DType d) { return d == DType::bf16 ? CUDA_R_16BF : d == DType::f32 ? CUDA_R_32F : CUDA_R_64F; }

// A batch of matrices [rows, width], row-major.
cublasLtMatrixLayout_t layout(DType d, int64_t rows, int64_t width, int64_t ld, int64_t batch, int64_t stride) {
  cublasLtMatrixLayout_t l;
  checked(cublas().layout_create(&l, type_of(d), uint64_t(width), uint64_t(rows), ld), "cublasLtMatrixLayoutCreate");
  const int32_t count = int32_t(batch);
  const auto set = [&](cublasLtMatrixLayoutAttribute_t what, const auto& value) {
    checked(cublas().layout_set(l, what, &value, sizeof value), "cublasLtMatrixLayoutSetAttribute");
  };
  set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
  set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  return l;
}

// cuBLASLt's first choice, by its own rules and no timing: the same in every run. Sums of parts that are added up in
// place, in whatever order they are done, are ruled out, and so are parts that are rounded to bf16.
cublasLtMatmulAlgo_t choose(const Gemm& how, const Plan& p) {
  const Cublas& api = cublas();
  cublasLtMatmulPreference_t preference;
  checked(api.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    checked(api.preference_set(preference, what, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspace});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  cublasLtMatmulHeuristicResult_t found;
  int n = 0;
  const cublasStatus_t status = api.choose(context().handle, p.product, p.b, p.a, p.c, p.c, preference, 1, &found, &n);
  api.preference_destroy(preference);
  check(status == CUBLAS_STATUS_SUCCESS && n == 1, "CUDA: cuBLAS has no algorithm for the product of [", how.m, ", ",
        how.k, "] and [", how.k, ", ", how.n, "], ", how.batch, " times: ", api.status_string(status));
  return found.algo;
}

Plan make_plan(const Gemm& g, const Types& types) {
  Plan p;
  const cudaDataType_t scales = types.operands == DType::f64 ? CUDA_R_64F : CUDA_R_32F;
  checked(cublas().product_create(&p.product, types.compute(), scales), "cublasLtMatmulDescCreate");
  const auto transpose = [&](cublasLtMatmulDescAttributes_t which, bool yes) {
    const int32_t op = yes ? CUBLAS_OP_T : CUBLAS_OP_N;
    checked(cublas().product_set(p.product, which, &op, sizeof op), "cublasLtMatmulDescSetAttribute");
  };
  transpose(CUBLASLT_MATMUL_DESC_TRANSA, g.transpose_b);
  transpose(CUBLASLT_MATMUL_DESC_TRANSB, g.transpose_a);
  const DType d = types.operands;
  p.a = layout(d, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, g.lda, g.batch, g.stride_a);
  p.b = layout(d, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, g.ldb, g.batch, g.stride_b);
  p.c = layout(types.results, g.m, g.n, g.ldc, g.batch, g.stride_c);
  p.algorithm = choose(g, p);
  return p;
}

const Plan& plan_of(const Gemm& g, const Types& types) {
  using Key = std::array<int64_t, 13>;
  static std::map<Key, Plan>& plans = *new std::map<Key, Plan>;  // as long as the program, like the context
  static std::mutex mutex;
  const int64_t kinds = (int64_t(types.operands) << 16) + (int64_t(types.results) << 8) + types.tf32;
  const Key key = {kinds, g.m,   g.n,     g.k,        g.transpose_a, g.transpose_b, g.lda,
                   g.ldb, g.ldc, g.batch, g.stride_a, g.stride_b,    g.stride_c};
  std::lock_guard lock(mutex);
  const auto known = plans.find(key);
  return known != plans.end() ? known->second : plans.emplace(key, make_plan(g, types)).first->second;
}

const void* numbers(const Tensor& t) {
  return dispatch_activation(t.dtype(), [&]<class T>() -> const void* { return data<T>(t); });
}

// C = 0, for products that have nothing to add up.
template <class T>
struct ClearRows {
  int64_t m, n, ld, stride;
  T* c;
  __device__ void operator()(int64_t i) const { c[i / n / m * stride + i / n % m * ld + i % n] = T(0); }
};

// `base` is added where g accumulates.
void multiply(const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& base, const Tensor& c) {
  const int64_t n_results = g.batch * g.m * g.n;
  if (n_results == 0 || (g.k == 0 && g.accumulate)) return;
  if (b.dtype() != a.dtype()) return multiply(g, a, to(detach(b), a.dtype()), base, c);
  const Types types = {a.dtype(), c.dtype(), a.dtype() == DType::f32 && tf32_allowed()};
  dispatch_activation(c.dtype(), [&]<class C>() {
    using T = computed_t<C>;
    if (g.k == 0) return for_each(n_results, ClearRows<C>{g.m, g.n, g.ldc, g.stride_c, data<C>(c)});
    const Plan& p = plan_of(g, types);
    const T one = 1, keep = g.accumulate ? 1 : 0;
    checked(cublas().multiply(context().handle, p.product, &one, numbers(b), p.b, numbers(a), p.a, &keep, data<C>(base),
                              p.c, data<C>(c), p.c, &p.algorithm, context().workspace, kWorkspace, stream()),
            "cublasLtMatmul");
  });
}

}  // namespace

void gemm(Cuda, const Gemm& g, const Tensor& a, const Tensor& b, const Tensor& c) { multiply(g, a, b, c, c); }
void gemm_onto(Cuda, const Gemm& how, const Tensor& a, const Tensor& b, const Tensor& base, const Tensor& c) {
  if (how.k == 0) return copy(Cuda{}, base, c);
  Gemm onto = how;
  onto.accumulate = true;
  multiply(onto, a, b, base, c);
}

bool multiplies_bf16(Cuda) { return true; }  // since sm_80, the oldest that is compiled for

}  // namespace rondo
