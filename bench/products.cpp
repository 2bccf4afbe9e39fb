// Products at the shapes of the measured models, in all transposes.
#include "apps/config.h"
#include "bench/rows.h"
#include "nn/init.h"
#include "tensor/kernels.h"

namespace rondo::bench {
namespace {

void add_product(const std::string& size, const char* what, int64_t m, int64_t n, int64_t k, bool ta, bool tb) {
  const auto prepare = [=] {
    Generator g;
    const Tensor a = normal_init(ta ? Shape{k, m} : Shape{m, k}, 0, 1, g);
    const Tensor b = normal_init(tb ? Shape{n, k} : Shape{k, n}, 0, 1, g), c({m, n});
    const Gemm how = {
        .m = m, .n = n, .k = k, .transpose_a = ta, .transpose_b = tb, .lda = a.dim(1), .ldb = b.dim(1), .ldc = n};
    return Work{[=] { return seconds_of([&] { gemm(Cpu{}, how, a, b, c); }); },
                {.flops = 2.0 * double(m) * double(n) * double(k)}};
  };
  add_row("gemm " + size + " " + what + " " + text({m, n, k}) + (ta ? " A^T" : " A") + (tb ? " B^T" : " B") + " f32",
          prepare);
}

}  // namespace

void add_product_rows() {
  for (const char* size : {"readme", "small", "tiny"}) {
    const RunConfig config = named_size(size);
    const BlockRecurrentConfig& c = config.model;
    const int64_t rows = config.train.batch_size * c.max_seq_len, F = c.dim * c.ff_mult * 2 / 3;
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        add_product(size, "to_q", rows, c.heads * c.dim_head, c.dim, ta, tb);
        add_product(size, "to_kv", rows, 2 * c.dim_head, c.dim, ta, tb);
        add_product(size, "feed_forward in", rows, 2 * F, c.dim, ta, tb);
        add_product(size, "feed_forward out", rows, c.dim, F, ta, tb);
      }
  }
}

}  // namespace rondo::bench
