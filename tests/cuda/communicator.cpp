// A rank that is alone, through NCCL like any other. What several make together is in ranks.cpp.
#include "tensor/communicator.h"

#include "tests/cuda/alone.h"
#include "tests/testing.h"

namespace rondo::testing {

TEST_CASE("cuda communicator: sums and means of a rank that is alone") {
  const auto ranks = alone();
  if (!ranks) return;
  CHECK(ranks->rank() == 0);
  CHECK(ranks->size() == 1);
  CHECK(!ranks->any(false));
  CHECK(ranks->any(true));
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i64}) {
    const Tensor host = to(randn({3, 50000}), dtype), t = to(host, Device::cuda);
    const Tensor empty({0}, dtype, Device::cuda);
    ranks->sum(t);
    CHECK(same_bits(to(t, Device::cpu), host));
    ranks->begin_mean(std::vector<Tensor>{t, empty});
    ranks->wait();
    CHECK(same_bits(to(t, Device::cpu), host));
  }
  CHECK(error_of([&] { ranks->sum(zeros({2}, DType::u8, Device::cuda)); }) ==
        "sums over several GPUs are not made of u8");
  ranks->finish();
}

}  // namespace rondo::testing
