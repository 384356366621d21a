#include "nextscale/data/token_cache.h"

#include <random>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/mutated.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;
using testing::TemporaryDirectory;

// 5 training pictures in 2 views, 3 held out, 6 tokens each, 16 codes, 3 classes.
TokenCache small_cache() {
  TokenCache cache;
  cache.train_tokens = at::arange(60).remainder(16).view({10, 6}).to(at::kShort);
  cache.val_tokens = at::arange(18).remainder(16).view({3, 6}).to(at::kShort);
  cache.train_labels = at::tensor({0, 1, 2, 0, 1}, at::kLong);
  cache.val_labels = at::tensor({2, 1, 0}, at::kLong);
  cache.views = 2;
  cache.quantizer = {{"embedding.weight", at::arange(64, at::kFloat).view({16, 4})},
                     {"quant_resi.qresi.bias", at::ones({4})}};
  cache.quantizer_config = R"({"codes":16})";
  cache.tokenizer_config = R"({"ch":32})";
  cache.tokenizer_hash = "0123";
  cache.class_names = {"shirt", "coat \xc3\xbc", "bag"};
  cache.data_fingerprint = "4567";
  return cache;
}

std::string cache_complaint(const std::filesystem::path& path) {
  try {
    read_token_cache(path);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::failure);
    return e.what();
  }
  return "";
}

TEST(TokenCache, EverythingReadsBack) {
  const TemporaryDirectory folder;
  const auto cache = small_cache();
  write_token_cache(folder / "tokens.safetensors", cache);
  const auto read = read_token_cache(folder / "tokens.safetensors");
  EXPECT_TRUE(read.train_tokens.equal(cache.train_tokens));
  EXPECT_EQ(read.train_tokens.scalar_type(), at::kShort);
  EXPECT_TRUE(read.val_tokens.equal(cache.val_tokens));
  EXPECT_TRUE(read.train_labels.equal(cache.train_labels));
  EXPECT_TRUE(read.val_labels.equal(cache.val_labels));
  EXPECT_EQ(read.views, 2);
  ASSERT_EQ(read.quantizer.size(), 2u);
  EXPECT_TRUE(find_tensor(read.quantizer, "embedding.weight").equal(cache.quantizer[0].second));
  EXPECT_TRUE(find_tensor(read.quantizer, "quant_resi.qresi.bias").equal(cache.quantizer[1].second));
  EXPECT_EQ(read.quantizer_config, cache.quantizer_config);
  EXPECT_EQ(read.tokenizer_config, cache.tokenizer_config);
  EXPECT_EQ(read.tokenizer_hash, cache.tokenizer_hash);
  EXPECT_EQ(read.class_names, cache.class_names);
  EXPECT_EQ(read.data_fingerprint, cache.data_fingerprint);
}

TEST(TokenCache, AnEmptyHeldOutPartIsAllowed) {
  const TemporaryDirectory folder;
  auto cache = small_cache();
  cache.val_tokens = cache.val_tokens.narrow(0, 0, 0);
  cache.val_labels = cache.val_labels.narrow(0, 0, 0);
  write_token_cache(folder / "t", cache);
  EXPECT_EQ(read_token_cache(folder / "t").val_labels.size(0), 0);
}

TEST(TokenCache, WhatATrainerCouldNotUseIsNeitherWrittenNorRead) {
  struct Case {
    void (*damage)(TokenCache&);
    std::string expected;
  };
  const std::vector<Case> cases = {
      {[](TokenCache& c) { c.train_tokens[3][2] = 16; }, "train.tokens: value out of range: expected 0 to 15, got 16"},
      {[](TokenCache& c) { c.val_tokens[0][0] = -1; }, "val.tokens: value out of range: expected 0 to 15, got -1"},
      {[](TokenCache& c) { c.val_labels[1] = 3; }, "val.labels: value out of range: expected 0 to 2, got 3"},
      {[](TokenCache& c) { c.class_names.clear(); }, "train.labels: value out of range: expected 0 to 0, got 2"},
      {[](TokenCache& c) { c.views = 3; },
       "train.tokens: number of token maps differs: expected 3 views of 5 labels, got 10"},
      {[](TokenCache& c) { c.val_tokens = c.val_tokens.narrow(1, 0, 5); },
       "val.tokens: length differs from training's"},
      {[](TokenCache& c) { c.train_tokens = c.train_tokens.to(at::kFloat); }, "train.tokens: no token maps"},
      {[](TokenCache& c) { c.train_labels = c.train_labels.to(at::kInt); }, "train.labels: no labels"},
      {[](TokenCache& c) { c.quantizer.erase(c.quantizer.begin()); },
       "quantize.embedding.weight: codebook is missing"}};
  for (const auto& [damage, expected] : cases) {
    const TemporaryDirectory folder;
    auto cache = small_cache();
    damage(cache);
    try {
      write_token_cache(folder / "t", cache);
      ADD_FAILURE() << "written: " << expected;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "t"));
    // The same put together by somebody else.
    write_token_cache(folder / "t", small_cache());
    auto file = read_weights(folder / "t");
    WeightsFile other{.tensors = {}, .metadata = file.metadata};
    for (auto& [name, tensor] : file.tensors) other.tensors.emplace_back(name, tensor.clone());
    for (auto& [name, tensor] : other.tensors) {
      if (name == "train.tokens") tensor = cache.train_tokens.contiguous();
      if (name == "val.tokens") tensor = cache.val_tokens.contiguous();
      if (name == "val.labels") tensor = cache.val_labels;
      if (name == "train.labels") tensor = cache.train_labels;
    }
    write_weights(folder / "u", other);
    if (cache.views == 2 && !cache.class_names.empty() && cache.quantizer.size() == 2) {
      EXPECT_NE(cache_complaint(folder / "u").find(expected), std::string::npos) << cache_complaint(folder / "u");
    }
  }
}

TEST(TokenCache, AChangedTokenInsideTheCodebookIsNoticed) {
  const TemporaryDirectory folder;
  write_token_cache(folder / "t", small_cache());
  auto bytes = testing::read_file(folder / "t");
  // train.tokens begins with 0, 1, 2, 3 as int16
  const std::string start("\0\0\1\0\2\0\3\0", 8);
  const auto at = bytes.find(start);
  ASSERT_NE(at, std::string::npos);
  bytes[at] = 5;
  testing::write_file(folder / "t", bytes);
  EXPECT_NE(cache_complaint(folder / "t").find("content does not fit its hash"), std::string::npos)
      << cache_complaint(folder / "t");
  testing::write_file(folder / "t", bytes.substr(0, bytes.size() - 8));
  EXPECT_NE(cache_complaint(folder / "t"), "");
}

TEST(TokenCache, ChangedBytesEndInACacheOrAnError) {
  const TemporaryDirectory folder;
  write_token_cache(folder / "t", small_cache());
  const auto bytes = testing::read_file(folder / "t");
  std::mt19937_64 random(20240607);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    testing::write_file(folder / "u", testing::mutated(bytes, random));
    refused += cache_complaint(folder / "u").empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 1800);  // the hash sees nearly everything that is not refused before
}

TEST(TokenCache, OtherFilesAreRefused) {
  const TemporaryDirectory folder;
  write_weights(folder / "t", {.tensors = {{"x", at::ones({2})}}, .metadata = {{"format", "nextscale.tokenizer"}}});
  EXPECT_NE(cache_complaint(folder / "t").find("nextscale.tokens"), std::string::npos) << cache_complaint(folder / "t");
  write_weights(folder / "t", {.tensors = {{"x", at::ones({2})}}, .metadata = {{"format", "nextscale.tokens"}}});
  EXPECT_NE(cache_complaint(folder / "t").find("metadata lacks a config"), std::string::npos)
      << cache_complaint(folder / "t");
}

TEST(WeightsHash, SeesNamesShapesTypesAndValues) {
  const auto x = at::arange(6, at::kFloat);
  const auto hash = weights_hash({{"x", x}});
  EXPECT_EQ(hash.size(), 32u);
  EXPECT_EQ(weights_hash({{"x", x.clone()}}), hash);
  EXPECT_EQ(weights_hash({{"x", at::stack({x, x}, 1).select(1, 0)}}), hash);  // however it lies in memory
  EXPECT_NE(weights_hash({{"y", x}}), hash);
  EXPECT_NE(weights_hash({{"x", x.view({2, 3})}}), hash);
  EXPECT_NE(weights_hash({{"x", x.to(at::kDouble)}}), hash);
  EXPECT_NE(weights_hash({{"x", x.add(1e-6)}}), hash);
}

}  // namespace
}  // namespace nextscale
