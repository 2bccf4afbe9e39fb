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

TEST_CASE("what training by a token costs") {
  // Two layers of width 3 with one head of 2, windows of 4 keys, a feed-forward layer of 3 * 4 * 2 / 3 = 8; 5 tokens.
  BlockRecurrentConfig c = {.num_tokens = 5,
                            .dim = 3,
                            .depth = 2,
                            .dim_head = 2,
                            .heads = 1,
                            .max_seq_len = 8,
                            .block_width = 4,
                            .num_state_vectors = 6,
                            .recurrent_layers = std::vector<int64_t>{},
                            .ema_beta_init = {}};
  const int queries = 3 * 2, keys_values = 3 * 4, attention = 4 * (2 + 2), out = 2 * 3, feed_forward = 3 * 16 + 8 * 3;
  const int layer = queries + keys_values + attention + out + feed_forward, head = 3 * 5;
  CHECK(c.training_flops_per_token() == 6 * (2 * layer + head));

  c.recurrent_layers = {2};
  const int reads = 3 * 2 + 6 * (2 + 2) + 2 * 3;
  const int own_queries = 2 * 3 * 2, own_keys_values = 3 * 4, from_states = 6 * (2 + 2), from_tokens = 4 * (2 + 2),
            state_out = 4 * 3, gate = 3 * 3;
  const int a_state = own_queries + own_keys_values + from_states + from_tokens + state_out + gate;
  CHECK(c.training_flops_per_token() == 6 * (2 * layer + head + reads + 6 * a_state / 4.0));
}

TEST_CASE("the default model is the small size") {
  CHECK(to_toml(RunConfig()) == to_toml(named_size("small")));
  CHECK(named_size("readme").model.recurrent() == std::vector<int64_t>{4});
  CHECK(named_size("tiny").train.batch_size == 4);
  CHECK(error_of([] { named_size("huge"); }) == "no size is called huge; there are readme, small and tiny");
}

}  // namespace rondo::testing
