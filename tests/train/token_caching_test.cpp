#include "nextscale/train/token_caching.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/data/loader.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/tests/train/toy_pictures.h"
#include "nextscale/train/seeds.h"

namespace nextscale {
namespace {

using testing::all_close;
using testing::one_worker;
using testing::squares;
using testing::TemporaryDirectory;

Tokenizer small_tokenizer() {
  Tokenizer tokenizer(testing::tiny_tokenizer_recipe().model);
  tokenizer->initialise(purpose_generator(1, Purpose::initial_weights));
  {
    const at::NoGradGuard no_grad;
    tokenizer->quantizer()->codebook().mul_(100);  // codes of the features' size, so that many are in use
  }
  tokenizer->eval();
  return tokenizer;
}

std::optional<TokenCache> cached(const DataParts& parts, const DataOptions& data, const TokenCachingOptions& options,
                                 const TokenCachingCalls& calls = {}) {
  return cache_tokens(small_tokenizer(), parts, data, options, /*seed=*/4, at::kCPU, at::kFloat, calls);
}

TEST(CacheTokens, HoldsWhatTheTokenizerSaysOfEveryPicture) {
  const auto parts = squares(50, 11);
  int64_t last = 0;
  const auto cache =
      cached(parts, one_worker(), {.batch = 16}, {.progress = [&](int64_t done) { last = done; }}).value();
  EXPECT_EQ(last, token_caching_total({}, parts, one_worker()));
  auto tokenizer = small_tokenizer();
  const auto train = load_in_order(*parts.train, parts, one_worker(), 0, 50);
  const auto val = load_in_order(*parts.val, parts, one_worker(), 0, 11);
  EXPECT_TRUE(all_close(cache.train_tokens, tokenizer->encode(train.pictures)));
  EXPECT_TRUE(all_close(cache.val_tokens, tokenizer->encode(val.pictures)));
  EXPECT_TRUE(all_close(cache.train_labels, train.labels));
  EXPECT_GT(cache.train_tokens.to(at::kLong).flatten().bincount().gt(0).sum().item<int64_t>(), 4);
  EXPECT_EQ(cache.tokenizer_hash, weights_hash(state_dict(*tokenizer)));
  EXPECT_EQ(cache.class_names, parts.class_names);

  const TemporaryDirectory folder;
  write_token_cache(folder / "tokens.safetensors", cache);
  const auto read = read_token_cache(folder / "tokens.safetensors");
  EXPECT_TRUE(all_close(read.train_tokens, cache.train_tokens));
  EXPECT_EQ(read.quantizer_config, cache.quantizer_config);
}

TEST(CacheTokens, MirroringDoublesTheViews) {
  const auto parts = squares(20, 4);
  auto data = one_worker();
  data.hflip = true;
  const auto cache = cached(parts, data, {}).value();
  ASSERT_EQ(cache.views, 2);
  const auto pictures = load_in_order(*parts.train, parts, data, 0, 20).pictures;
  auto tokenizer = small_tokenizer();
  EXPECT_TRUE(all_close(cache.train_tokens.narrow(0, 0, 20), tokenizer->encode(pictures)));
  EXPECT_TRUE(all_close(cache.train_tokens.narrow(0, 20, 20), tokenizer->encode(pictures.flip({3}))));
  EXPECT_FALSE(all_close(cache.train_tokens.narrow(0, 0, 20), cache.train_tokens.narrow(0, 20, 20)));
}

TEST(CacheTokens, RandomCropsAreDrawnOncePerViewAndPicture) {
  auto parts = squares(12, 4);
  const TokenCachingOptions options{.crops = 2, .batch = 5};
  EXPECT_THROW(cached(parts, one_worker(), options), Error);  // nothing to crop
  parts.resize = true;
  const auto cache = cached(parts, one_worker(), options).value();
  EXPECT_EQ(cache.views, 2);
  EXPECT_EQ(cache.train_tokens.size(0), 24);
  EXPECT_FALSE(all_close(cache.train_tokens.narrow(0, 0, 12), cache.train_tokens.narrow(0, 12, 12)));
  auto data = one_worker();
  data.workers = 3;
  EXPECT_TRUE(all_close(cached(parts, data, {.crops = 2, .batch = 7}).value().train_tokens, cache.train_tokens));
}

TEST(CacheTokens, StopsBetweenBatchesWithoutAResult) {
  int64_t done = 0;
  const TokenCachingCalls calls{.progress = [&](int64_t pictures) { done = pictures; },
                                .stop = [&] { return done >= 16; }};
  EXPECT_FALSE(cached(squares(50, 11), one_worker(), {.batch = 8}, calls).has_value());
  EXPECT_EQ(done, 16);
}

TEST(CacheTokens, PicturesOfAnotherSideAreRefused) {
  auto parts = squares(8, 4);
  parts.side = 20;
  EXPECT_THROW(cached(parts, one_worker(), {}), Error);
}

}  // namespace
}  // namespace nextscale
