// Weights in and out of the command line: files of ours and of the reference, encode, decode, convert, npz.
#include "nextscale/io/weights.h"

#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/random.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/pth_writer.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/program.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

NamedTensors random_weights(const torch::nn::Module& module, uint64_t seed) {
  auto generator = make_generator(seed);
  NamedTensors weights;
  for (const auto& [name, tensor] : state_dict(module)) {
    const bool drawn = tensor.is_floating_point() && !name.ends_with("zero_k_bias") && !name.ends_with("hit_SV");
    weights.emplace_back(name, drawn ? at::randn(tensor.sizes(), generator) * 0.2 : tensor);
  }
  return weights;
}

/// A tokenizer and a transformer that the reference can express, as its .pth files.
class Weights : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory;
    const at::NoGradGuard no_grad;
    Tokenizer tokenizer(tokenizer_options());
    write_pth(vae(), random_weights(*tokenizer, 1));
    Transformer transformer(transformer_options());
    load_transformer_weights(transformer, random_weights(*transformer, 2), "drawn");
    write_pth(var(), reference_state_dict(transformer));
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static TokenizerOptions tokenizer_options() {
    TokenizerOptions options;
    options.quantizer = {.codes = 12, .code_width = 4, .sides = {1, 2, 4}, .share_quant_resi = 2};
    options.ch = 32;
    options.ch_mult = {1, 1};
    options.res_blocks = 1;
    return options;
  }
  static TransformerOptions transformer_options() {
    return {.codes = 12, .code_width = 4, .sides = {1, 2, 4}, .classes = 3, .depth = 2, .width = 16, .heads = 2};
  }
  static std::string vae() { return *folder_ / "vae.pth"; }
  static std::string var() { return *folder_ / "var.pth"; }
  std::string at(const std::string& name) const { return (own_ / name).string(); }

  void expect_refused(const Words& words, int code, const std::vector<std::string>& parts) const {
    const auto result = run_nextscale(words);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_EQ(result.out, "");
    ASSERT_EQ(result.error_lines().size(), 1U) << result.err;
    EXPECT_THAT(result.err, StartsWith("nextscale: "));
    for (const auto& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  }
  void expect_done(const Words& words) const {
    const auto result = run_nextscale(words);
    ASSERT_EQ(result.code, 0) << result.err;
  }
  static void expect_equal(const NamedTensors& a, const NamedTensors& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].first, b[i].first);
      EXPECT_EQ(a[i].second.scalar_type(), b[i].second.scalar_type()) << a[i].first;
      EXPECT_TRUE(at::equal(a[i].second, b[i].second)) << a[i].first;
    }
  }

  TemporaryDirectory own_;
  static TemporaryDirectory* folder_;
};
TemporaryDirectory* Weights::folder_ = nullptr;

TEST_F(Weights, ConvertThereAndBackChangesNothing) {
  expect_done({"convert", vae(), at("vae.safetensors"), "--sides", "1,2,4"});
  expect_done({"convert", at("vae.safetensors"), at("vae.pth")});
  expect_equal(read_weights(vae()).tensors, read_weights(at("vae.pth")).tensors);
  EXPECT_EQ(load_tokenizer(at("vae.safetensors"))->options().quantizer.share_quant_resi, 2);

  expect_done({"convert", var(), at("var.safetensors")});
  expect_done({"convert", at("var.safetensors"), at("var.pth")});
  expect_equal(read_weights(var()).tensors, read_weights(at("var.pth")).tensors);
  EXPECT_TRUE(find_tensor(read_weights(at("var.pth")).tensors, "attn_bias_for_masking").defined());
  const auto options = load_transformer(at("var.safetensors"))->options();
  EXPECT_EQ(options.sides, (std::vector<int64_t>{1, 2, 4}));
  EXPECT_EQ(options.heads, 2);
  EXPECT_EQ(options.classes, 3);
}

TEST_F(Weights, ATrainersCheckpointGivesBothParts) {
  NamedTensors all;
  for (const auto& [name, tensor] : read_weights(vae()).tensors) all.emplace_back("trainer/vae_local/" + name, tensor);
  for (const auto& [name, tensor] : read_weights(var()).tensors) all.emplace_back("trainer/var_wo_ddp/" + name, tensor);
  // Nested dictionaries come as paths; a file with paths for names stands for them here.
  write_weights(at("ar-ckpt-last.pth"), {.tensors = all, .metadata = {}});
  expect_refused({"convert", at("ar-ckpt-last.pth"), at("x.pth")}, 2,
                 {"holds a tokenizer and a transformer", "--part"});
  expect_done({"convert", at("ar-ckpt-last.pth"), at("t.pth"), "--part", "transformer"});
  expect_equal(read_weights(var()).tensors, read_weights(at("t.pth")).tensors);
  expect_done({"sample", "--model", at("ar-ckpt-last.pth"), "--tokenizer", at("ar-ckpt-last.pth"), "--out", at("p"),
               "--labels", "0"});
}

TEST_F(Weights, WhatTheReferenceCannotSayIsRefused) {
  auto options = tokenizer_options();
  options.norm_groups = 8;
  Tokenizer tokenizer(options);
  save_tokenizer(at("groups.safetensors"), tokenizer);
  expect_refused({"convert", at("groups.safetensors"), at("x.pth")}, 1, {"norm_groups", "expected 32", "8"});
  EXPECT_FALSE(std::filesystem::exists(at("x.pth")));
  expect_done({"convert", at("groups.safetensors"), at("x.safetensors")});
  expect_refused({"convert", vae(), at("x.onnx")}, 2, {"x.onnx", ".safetensors or .pth"});
  expect_refused({"convert", vae()}, 2, {"takes IN and OUT"});
}

TEST_F(Weights, EncodeAndDecodeGoThereAndBack) {
  auto generator = make_generator(5);
  std::filesystem::create_directory(at("in"));
  for (const char* name : {"b_class002.png", "a_class001.png", "Z.png"}) {
    write_png(own_ / "in" / name, at::randint(256, {8, 8, 3}, generator).to(at::kByte));
  }
  expect_done(
      {"encode", "--tokenizer", vae(), "--sides", "1,2,4", "--images", at("in"), "--tokens-out", at("t.safetensors")});
  const auto file = read_weights(at("t.safetensors"));
  const auto names = nlohmann::json::parse(file.metadata.at("names")).get<std::vector<std::string>>();
  EXPECT_THAT(names, ::testing::ElementsAre(HasSubstr("Z.png"), HasSubstr("a_class001"), HasSubstr("b_class002")));
  EXPECT_TRUE(all_close(find_tensor(file.tensors, "labels"), at::tensor({-1, 1, 2})));
  const auto tokens = find_tensor(file.tensors, "tokens");
  EXPECT_EQ(tokens.sizes(), (std::vector<int64_t>{3, 21}));
  expect_done({"decode", "--tokens", at("t.safetensors"), "--tokenizer", vae(), "--sides=1,2,4", "--out", at("out")});
  const at::NoGradGuard no_grad;
  TokenizerHints hints;
  hints.sides = std::vector<int64_t>{1, 2, 4};
  auto tokenizer = load_tokenizer(vae(), false, hints);
  const auto exact = bytes_from_network_range(tokenizer->decode(tokens));
  EXPECT_TRUE(at::equal(read_picture(own_ / "out/000001_class001.png", 3), exact[1]));
  EXPECT_TRUE(std::filesystem::exists(at("out/000000_nolabel.png")));
}

TEST_F(Weights, EncodeTreatsOtherSizesAsValidationDoes) {
  write_png(own_ / "wide.png", at::randint(256, {20, 31, 3}, make_generator(6)).to(at::kByte));
  expect_done({"encode", "--tokenizer", vae(), "--sides", "1,2,4", "--images", at("wide.png"), "--tokens-out",
               at("t.safetensors")});
  EXPECT_EQ(find_tensor(read_weights(at("t.safetensors")).tensors, "tokens").size(0), 1);
}

TEST_F(Weights, DecodeRefusesTokensThatDoNotFit) {
  const auto decode = [&](const at::Tensor& tokens, const std::string& part) {
    write_weights(at("t.safetensors"), {.tensors = {{"tokens", tokens}}, .metadata = {}});
    expect_refused(
        {"decode", "--tokens", at("t.safetensors"), "--tokenizer", vae(), "--sides", "1,2,4", "--out", at("o")}, 1,
        {"t.safetensors: tokens", part});
  };
  decode(at::zeros({1, 20}, at::kLong), "whole numbers (N, 21)");
  decode(at::zeros({1, 21}), "whole numbers (N, 21)");
  decode(at::full({1, 21}, 12, at::kLong), "expected 0 to 11, got 12");
  decode(at::full({1, 21}, -1, at::kLong), "got -1");
}

TEST_F(Weights, OptionsThatContradictTheFileAreRefused) {
  const auto sample = [&](const Words& more) {
    Words words = {"sample", "--model", var(), "--tokenizer", vae(), "--out", at("o"), "--labels", "0"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  expect_refused(sample({"--heads", "4"}), 2, {"--heads", "expected 2", "4"});
  expect_refused(sample({"--sides", "1,2"}), 2, {"--sides", "1,2,4"});
  expect_refused(sample({"--norm-groups", "5"}), 1, {"vae.pth", "--norm-groups"});
  expect_refused({"encode", "--tokenizer", vae(), "--images", at("nothing"), "--tokens-out", at("t")}, 1, {"nothing"});
  write_png(own_ / "p.png", at::zeros({8, 8, 3}, at::kByte));
  expect_refused({"encode", "--tokenizer", vae(), "--images", at("p.png"), "--tokens-out", at("t")}, 1,
                 {"vae.pth", "--sides", "3 scales"});
  expect_refused({"encode", "--tokenizer", var(), "--images", at("p.png"), "--tokens-out", at("t")}, 1,
                 {"var.pth", "is no tokenizer", "those of a transformer"});
  Words swapped = {"sample", "--model", vae(), "--tokenizer", var(), "--out", at("o"), "--labels", "0"};
  expect_refused(swapped, 1, {"vae.pth", "is no transformer", "those of a tokenizer"});
}

TEST_F(Weights, AModelOfAnotherSizeIsNamed) {
  Transformer d16(TransformerOptions{
      .codes = 12, .code_width = 4, .sides = {1, 2}, .classes = 1, .depth = 2, .width = 128, .heads = 2});
  Transformer d3(TransformerOptions{
      .codes = 12, .code_width = 4, .sides = {1, 2}, .classes = 1, .depth = 3, .width = 192, .heads = 3});
  try {
    load_transformer_weights(d16, state_dict(*d3), "var_d3.pth");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("var_d3.pth: is a transformer of another size: expected d2 (depth 2, width 128), "
                          "got d3 (depth 3, width 192)"));
  }
}

TEST_F(Weights, InspectTellsWhatFilesOfOthersHold) {
  auto result = run_nextscale({"inspect", var(), "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  auto found = nlohmann::json::parse(result.out);
  EXPECT_EQ(found.at("kind"), "transformer");
  EXPECT_EQ(found.at("config").at("sides"), nlohmann::json({1, 2, 4}));
  write_pth(at("any.pth"), {{"some.thing", at::ones({2})}});
  result = run_nextscale({"inspect", at("any.pth"), "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out).at("kind"), "weights");
  write_pth(at("none.pth"), {});
  expect_refused({"inspect", at("none.pth")}, 1, {"none.pth", "holds no tensor"});
  write_file(own_ / "page.pth", "<html>not found</html>");
  expect_refused({"inspect", at("page.pth")}, 1, {"page.pth"});
}

TEST_F(Weights, NpzIsOneFileInAFixedOrder) {
  expect_done({"sample", "--model", var(), "--tokenizer", vae(), "--out", at("p"), "--classes", "0-2", "--per-class",
               "4", "--batch", "5", "--npz", at("s.npz")});
  expect_done({"sample", "--model", var(), "--tokenizer", vae(), "--out", at("q"), "--classes", "0-2", "--per-class",
               "4", "--batch", "5", "--npz", at("k.npz"), "--keep-order"});
  const auto shuffled = read_file(at("s.npz")), kept = read_file(at("k.npz"));
  EXPECT_EQ(shuffled.size(), kept.size());
  EXPECT_NE(shuffled, kept);
  // The labels lie at the end of the data, before the directory: (12) int64.
  const auto labels = [](const std::string& bytes) {
    const auto at = bytes.find("arr_1.npy");
    return bytes.substr(bytes.find('\n', at) + 1, 12 * 8);
  };
  std::string sorted;
  for (const char label : {0, 1, 2}) {
    for (int i = 0; i < 4; ++i) sorted += std::string(1, label) + std::string(7, '\0');
  }
  EXPECT_EQ(labels(kept), sorted);
  EXPECT_NE(labels(shuffled), sorted);
  expect_refused({"sample", "--model", var(), "--tokenizer", vae(), "--out", at("p"), "--labels", "0", "--keep-order"},
                 2, {"--npz"});
}

}  // namespace
}  // namespace nextscale::testing
