#include "nextscale/vqvae/tokenizer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using testing::all_close;

Tokenizer fresh(const TokenizerOptions& options, uint64_t seed = 1) {
  Tokenizer tokenizer(options);
  tokenizer->initialise(make_generator(seed));
  return tokenizer;
}

TokenizerOptions tiny_options() {
  TokenizerOptions options = tokenizer_preset("fast", 16, 1);
  options.ch = 8;
  options.attention = true;
  return options;
}

at::Tensor pictures(int64_t count, int64_t channels, int64_t side) {
  return at::rand({count, channels, side, side}, make_generator(2)) * 2 - 1;
}

TEST(TokenizerPreset, FastTakesSizeAndSidesFromThePicture) {
  const auto sides = [](int64_t side) { return tokenizer_preset("fast", side, 1).quantizer.sides; };
  EXPECT_EQ(sides(28), (std::vector<int64_t>{1, 2, 3, 4, 5, 7}));
  EXPECT_EQ(sides(32), (std::vector<int64_t>{1, 2, 3, 4, 6, 8}));
  for (int64_t side = 16; side <= 64; side += 4) {
    SCOPED_TRACE(side);
    const auto options = tokenizer_preset("fast", side, 3);
    EXPECT_EQ(options.picture_side(), side);
    EXPECT_EQ(options.quantizer.sides.front(), 1);
    EXPECT_NO_THROW(check_together(options));
  }
  for (const int64_t side : {0, 12, 30, 68, -28}) EXPECT_THROW(tokenizer_preset("fast", side, 1), Error) << side;
  for (const int64_t side : {64, 128, 256, 512}) {
    EXPECT_EQ(tokenizer_preset("paper", side, 3).picture_side(), side);
    EXPECT_EQ(tokenizer_preset("vqgan", side, 3).ch, 128);
  }
  EXPECT_EQ(tokenizer_preset("paper", 128, 3).quantizer.sides, (std::vector<int64_t>{1, 2, 3, 4, 6, 8}));
  for (const int64_t side : {48, 100, 2048}) EXPECT_THROW(tokenizer_preset("paper", side, 3), Error) << side;
  EXPECT_THROW(tokenizer_preset("slow", 28, 1), Error);
}

TEST(TokenizerOptions, LargerPicturesAreTakenFewerAtOnceAndMoreOfThemOnAGpu) {
  const auto at_once = [](const char* preset, int64_t side, const at::Device& device) {
    return tokenizer_preset(preset, side, 3).pictures_at_once(device);
  };
  const at::Device gpu(at::kCUDA, 0);
  EXPECT_EQ(at_once("paper", 512, at::kCPU), 1);  // never none
  EXPECT_EQ(at_once("paper", 256, at::kCPU), 1);  // 336 MB each
  EXPECT_EQ(at_once("paper", 256, gpu), 11);
  EXPECT_GT(at_once("fast", 32, at::kCPU), at_once("fast", 64, at::kCPU));
  EXPECT_EQ(at_once("fast", 16, gpu), 256);
}

TEST(TokenizerOptions, ThatDoNotFitTogetherAreRefused) {
  auto options = tiny_options();
  options.norm_groups = 3;
  EXPECT_THROW(Tokenizer{options}, Error);
  options = tiny_options();
  options.quantizer.sides = {1, 4, 2};
  EXPECT_THROW(Tokenizer{options}, Error);
}

TEST(Tokenizer, EncodesAndDecodesWithEveryEntryThatTheReferenceLacks) {
  for (const bool attention : {false, true}) {
    for (const int64_t block : {1, 2}) {
      for (const int64_t channels : {1, 3}) {
        TokenizerOptions options = tiny_options();
        options.attention = attention;
        options.space_to_depth = block;
        options.channels = channels;
        options.quantizer.sides = {1, 2, 4};
        auto tokenizer = fresh(options);
        const auto x = pictures(2, channels, options.picture_side());
        const auto tokens = tokenizer->encode(x);
        EXPECT_EQ(tokens.sizes(), at::IntArrayRef({2, 21}));
        const auto decoded = tokenizer->decode(tokens);
        EXPECT_EQ(decoded.sizes(), x.sizes());
        EXPECT_LE(decoded.abs().max().item<float>(), 1);
        EXPECT_TRUE(all_close(tokenizer->decode_per_scale(tokens).back(), decoded));
      }
    }
  }
}

TEST(Tokenizer, FastPresetHasTheSizeOfItsRecipe) {
  int64_t parameters = 0;
  for (const auto& [name, parameter] : named_parameters(*Tokenizer(tokenizer_preset("fast", 28, 1)))) {
    parameters += parameter.numel();
  }
  EXPECT_EQ(parameters, 538396 + 256 * 8);  // the network and its codebook
}

TEST(Tokenizer, FoldedPixelsComeBackInTheirPlaces) {
  // A stack that hands its input through would show it; here the whole chain is checked by what a shift does: folding
  // by two sees a picture moved by two pixels as its feature map moved by one.
  TokenizerOptions options = tiny_options();
  options.ch_mult = {1};
  options.quantizer.sides = {8};
  auto tokenizer = fresh(options);
  tokenizer->eval();
  const at::NoGradGuard no_grad;
  auto f_hat = at::zeros({1, 8, 8, 8});
  f_hat[0].select(1, 3).select(1, 3).fill_(3);
  const auto moved = at::roll(f_hat, {1}, {3});
  const auto difference = [&](const at::Tensor& f) { return tokenizer->decode_raw(f); };
  const auto a = difference(f_hat).narrow(3, 4, 8);
  const auto b = difference(moved).narrow(3, 6, 8);
  EXPECT_LT((a - b).abs().mean().item<float>(), 0.2 * a.std().item<float>());
}

TEST(Tokenizer, TrainsOnAFixedBatch) {
  auto tokenizer = fresh(tiny_options());
  tokenizer->train();
  const auto x = pictures(4, 1, 16) * 0.2;
  const auto loss_of = [&] {
    const auto output = tokenizer->forward(x);
    return at::mse_loss(output.pictures, x) + output.quantized.loss;
  };
  const double before = loss_of().item<double>();
  for (int64_t step = 0; step < 30; ++step) {
    tokenizer->zero_grad();
    loss_of().backward();
    const at::NoGradGuard no_grad;
    for (const auto& [name, parameter] : named_parameters(*tokenizer)) {
      ASSERT_TRUE(parameter.grad().isfinite().all().item<bool>()) << name;
      parameter.sub_(parameter.grad() * 0.05);
    }
  }
  EXPECT_LT(loss_of().item<double>(), 0.7 * before);
}

TEST(Tokenizer, FollowsTheCallersAutocastAndGivesFloat32) {
  auto tokenizer = fresh(tiny_options());
  const auto x = pictures(2, 1, 16);
  const at::NoGradGuard no_grad;
  const auto exact = tokenizer->forward(x);
  const AutocastGuard bfloat16(at::kCPU, at::kBFloat16);
  const auto output = tokenizer->forward(x);
  EXPECT_EQ(output.pictures.scalar_type(), at::kFloat);
  EXPECT_EQ(tokenizer->features(x).scalar_type(), at::kFloat);
  EXPECT_FALSE(all_close(output.pictures, exact.pictures)) << "convolutions did not follow";
  EXPECT_LT((output.pictures - exact.pictures).abs().mean().item<float>(), 0.1);
}

TEST(Tokenizer, InitialValuesComeFromTheGeneratorAlone) {
  const auto a = state_dict(*fresh(tiny_options(), 1));
  const auto b = state_dict(*fresh(tiny_options(), 1));
  const auto c = state_dict(*fresh(tiny_options(), 2));
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(all_close(a[i].second, b[i].second)) << a[i].first;
  EXPECT_FALSE(all_close(find_tensor(a, "encoder.conv_in.weight"), find_tensor(c, "encoder.conv_in.weight")));
}

TEST(Tokenizer, InitialValuesHaveTheSpreadOfTheirKind) {
  auto options = tiny_options();
  options.ch = 64;
  const std::string name = "decoder.up.0.block.0.conv2.weight";  // (64, 64, 3, 3): fan-in and fan-out 576
  const auto uniform = find_tensor(state_dict(*fresh(options)), name);
  EXPECT_LE(uniform.abs().max().item<double>(), 1 / 24.0);
  EXPECT_NEAR(uniform.std().item<double>(), 1 / 24.0 / std::sqrt(3.0), 5e-4);
  options.initial_values = "xavier";
  const auto tokenizer = fresh(options);
  EXPECT_NEAR(find_tensor(state_dict(*tokenizer), name).std().item<double>(), 0.5 * std::sqrt(2.0 / 1152), 5e-4);
  EXPECT_EQ(find_tensor(state_dict(*tokenizer), "decoder.conv_in.bias").abs().max().item<double>(), 0);
}

TEST(Tokenizer, DropoutDrawsFromTheGivenGenerator) {
  auto options = tiny_options();
  options.dropout = 0.3;
  auto tokenizer = fresh(options);
  tokenizer->train();
  const auto x = pictures(2, 1, 16);
  const at::NoGradGuard no_grad;
  EXPECT_THROW(tokenizer->features(x), c10::Error);
  const auto with_seed = [&](uint64_t seed) {
    tokenizer->use_generator(make_generator(seed));
    return tokenizer->features(x);
  };
  EXPECT_TRUE(all_close(with_seed(1), with_seed(1)));
  EXPECT_FALSE(all_close(with_seed(1), with_seed(2)));
  tokenizer->eval();
  EXPECT_TRUE(all_close(with_seed(1), with_seed(2)));
}

TEST(Tokenizer, PicturesOfAWrongShapeAreRefused) {
  auto tokenizer = fresh(tiny_options());
  EXPECT_THROW(tokenizer->encode(at::zeros({1, 3, 16, 16})), Error);
  EXPECT_THROW(tokenizer->encode(at::zeros({1, 1, 18, 16})), Error);
  EXPECT_THROW(tokenizer->encode(at::zeros({1, 1, 20, 20})), Error);
}

TEST(TokenizerFile, GivesBackTheSameTokenizer) {
  const testing::TemporaryDirectory folder;
  const auto tokenizer = fresh(tiny_options());
  save_tokenizer(folder / "tokenizer.safetensors", tokenizer);
  auto loaded = load_tokenizer(folder / "tokenizer.safetensors");
  const auto expected = state_dict(*tokenizer), actual = state_dict(*loaded);
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(actual[i].first, expected[i].first);
    EXPECT_TRUE(all_close(actual[i].second, expected[i].second));
  }
  EXPECT_EQ(loaded->options().quantizer.sides, tokenizer->options().quantizer.sides);
  EXPECT_EQ(loaded->options().initial_values, "uniform");
  EXPECT_FALSE(loaded->is_training());

  const NamedTensors other = state_dict(*fresh(tiny_options(), 9));
  save_tokenizer(folder / "ema.safetensors", tokenizer, other);
  loaded = load_tokenizer(folder / "ema.safetensors");
  EXPECT_TRUE(
      all_close(find_tensor(state_dict(*loaded), "quant_conv.weight"), find_tensor(other, "quant_conv.weight")));
}

TEST(TokenizerFile, ThatIsNoneOrDoesNotFitItsConfigIsRefused) {
  const testing::TemporaryDirectory folder;
  const auto path = folder / "file.safetensors";
  const auto refused = [&](const WeightsFile& file) {
    write_weights(path, file);
    try {
      load_tokenizer(path);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::failure);
      EXPECT_NE(std::string(e.what()).find(path.string()), std::string::npos) << e.what();
      return true;
    }
    return false;
  };
  const auto tokenizer = fresh(tiny_options());
  save_tokenizer(path, tokenizer);
  const auto good = read_weights(path);
  const auto with = [&](const std::string& key, const std::string& value) {
    WeightsFile file{state_dict(*tokenizer), good.metadata};
    file.metadata[key] = value;
    return file;
  };
  EXPECT_TRUE(refused(with("format", "nextscale.transformer")));
  EXPECT_TRUE(refused(with("config", "{")));
  EXPECT_TRUE(refused(with("config", R"({"codes": -3})")));
  EXPECT_TRUE(refused(with("config", R"({"sides": [4, 2]})")));
  EXPECT_TRUE(refused(with("config", R"({"ch": 32})")));  // the weights are those of another width
  WeightsFile missing{state_dict(*tokenizer), good.metadata};
  missing.tensors.pop_back();
  EXPECT_TRUE(refused(missing));
}

TEST(Tokenizer, KeepingOnlyWhatEntersBlocksChangesNoGradient) {
  auto options = tiny_options();
  options.dropout = 0.3;
  const auto gradients = [&](bool checkpointing) {
    Tokenizer tokenizer(options);
    tokenizer->initialise(make_generator(1));
    tokenizer->use_generator(make_generator(2));
    tokenizer->train();
    tokenizer->set_checkpointing(checkpointing);
    const auto wanted = pictures(2, options.channels, options.picture_side());
    const auto output = tokenizer->forward(wanted);
    (at::mse_loss(output.pictures, wanted) + output.quantized.loss).backward();
    std::vector<at::Tensor> all;
    for (const auto& parameter : tokenizer->parameters()) all.push_back(parameter.grad());
    return all;
  };
  const auto kept = gradients(false), again = gradients(true);
  ASSERT_EQ(kept.size(), again.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    EXPECT_TRUE(testing::all_close(again[i], kept[i], {.relative = 1e-5, .absolute = 1e-6})) << i;
  }
}

}  // namespace
}  // namespace nextscale
