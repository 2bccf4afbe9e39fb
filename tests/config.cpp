// Configurations: what is written reads back, sizes are the reference's.
#include "apps/config.h"

#include "tests/testing.h"

namespace rondo::testing {

TEST_CASE("a configuration reads back from its TOML") {
  RunConfig config;
  for (const char* setting :
       {"model.recurrent_layers=[1, 4]", "model.qk_norm_scale=8", "model.ema_beta_init=[-2, 0.1]", "model.init=0.4",
        "data.files=[\"a b.txt\", \"quo\\\"te\\\\\\n\"]", "train.order=document", "optimizer.learning_rate=1e-7",
        "optimizer.name=adamw", "optimizer.weight_decay=1", "train.check_finite=true", "schedule.shape=cosine",
        "schedule.final_share=0.1"})
    apply_setting(config, setting);
  RunConfig again;
  apply_toml(again, to_toml(config), "config.toml");
  CHECK(to_toml(again) == to_toml(config));
  CHECK(*again.model.recurrent_layers == std::vector<int64_t>{1, 4});
  CHECK((*again.model.ema_beta_init)[0] == -2);
  CHECK(again.data.files[1] == "quo\"te\\\n");
  CHECK(again.optimizer.learning_rate == 1e-7);
  CHECK(again.optimizer.weight_decay == 1);
}

TEST_CASE("no recurrent layer and no ema_beta_init survive being written") {
  RunConfig config, again;
  apply_setting(config, "model.recurrent_layers=[]");
  again.model.ema_beta_init = {1, 1};
  apply_toml(again, to_toml(config), "config.toml");
  CHECK(again.model.recurrent().empty());
  CHECK(!again.model.ema_beta_init);
}

TEST_CASE("the default model is the small size") {
  CHECK(to_toml(RunConfig()) == to_toml(named_size("small")));
  CHECK(named_size("readme").model.recurrent() == std::vector<int64_t>{4});
  CHECK(named_size("tiny").train.batch_size == 4);
  CHECK(error_of([] { named_size("huge"); }) == "no size is called huge; there are readme, small and tiny");
}

}  // namespace rondo::testing
