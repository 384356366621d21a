#include "nextscale/vqvae/tokenizer.h"

#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/state_dict.h"
#include "nextscale/tests/parity/case_models.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/vqvae/phi.h"

namespace nextscale {
namespace {

using testing::all_close;
using testing::Compared;
using testing::ParityCase;

std::vector<std::string> names_of(const NamedTensors& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

// "1_3_8" or "1x1_2x3_5x4_8x8": the key of other maps in tok.ids_other.
Scales other_scales(const nlohmann::json& sides) {
  std::vector<MapSize> maps;
  for (const auto& side : sides) {
    if (side.is_number()) {
      maps.push_back({side.get<int64_t>(), side.get<int64_t>()});
    } else {
      maps.push_back({side.at(0).get<int64_t>(), side.at(1).get<int64_t>()});
    }
  }
  return Scales(maps);
}

// What cases at full size hold instead of whole tensors.
void check_summaries(Compared& compared, const ParityCase& parity_case, const std::vector<at::Tensor>& f_hats,
                     const at::Tensor& picture) {
  compared.check(parity_case, "tok.f_hat_final", f_hats.back());
  compared.check(parity_case, "tok.f_hat_l2_per_scale", at::linalg_vector_norm(at::stack(f_hats).flatten(1), 2, {1}));
  if (parity_case.has("tok.recon_32x32")) {
    compared.check(parity_case, "tok.recon_32x32", at::adaptive_avg_pool2d(picture, {32, 32}));
  }
  if (parity_case.has("tok.recon_corner")) {
    compared.check(parity_case, "tok.recon_corner", picture.narrow(2, 0, 16).narrow(3, 0, 16));
  }
  if (parity_case.has("tok.recon_l2")) {
    const auto expected = parity_case.tensor("tok.recon_l2");
    const auto norm = expected.numel() == 1 ? picture.norm() : at::linalg_vector_norm(picture.flatten(1), 2, {1});
    compared.check(parity_case, "tok.recon_l2", norm.reshape(expected.sizes()));
  }
}

TEST(ParityTokenizer, FeaturesTokensAndPicturesAreTheReferences) {
  Compared compared;
  for (const auto& parity_case : testing::parity_cases()) {
    SCOPED_TRACE(parity_case.name);
    const at::NoGradGuard no_grad;
    auto tokenizer = testing::tokenizer_of(parity_case);
    const auto x = parity_case.pictures();
    const auto f = tokenizer->features(x);
    const auto tokens = tokenizer->quantizer()->encode(f);
    compared.check(parity_case, "tok.f", f);
    compared.check(parity_case, "tok.ids", tokens);

    const auto f_hats = tokenizer->quantizer()->decode_per_scale(tokens);
    compared.check(parity_case, "tok.f_hat", at::stack(f_hats));
    const auto picture = tokenizer->decode(tokens);
    compared.check(parity_case, "tok.recon", picture);
    check_summaries(compared, parity_case, f_hats, picture);
    if (parity_case.has("tok.recon_per_scale")) {
      compared.check(parity_case, "tok.recon_per_scale",
                     at::stack(tokenizer->decode_per_scale(tokens.narrow(0, 0, 1))));
    }
    if (parity_case.has("tok.recon_growing.0")) {
      const auto growing = tokenizer->quantizer()->decode_growing(tokens.narrow(0, 0, 2));
      for (size_t k = 0; k < growing.size(); ++k) {
        compared.check(parity_case, "tok.recon_growing." + std::to_string(k), tokenizer->decode_features(growing[k]));
      }
    }
    compared.check(parity_case, "tok.x_in", tokenizer->quantizer()->teacher_forcing_input(tokens));
    const auto other = parity_case.json.value("other_sides", nlohmann::json::object());
    for (const auto& [key, sides] : other.items()) {
      compared.check(parity_case, "tok.ids_other." + key, tokenizer->quantizer()->encode(f, other_scales(sides)));
    }
    compared.end_case(parity_case);
  }
}

at::Tensor first64(const at::Tensor& gradient) {
  const auto flat = gradient.reshape(-1);
  const int64_t count = std::min<int64_t>(64, flat.numel());
  return at::constant_pad_nd(flat.narrow(0, 0, count), {0, 64 - count});
}

TEST(ParityTokenizerTraining, LossesAndGradientsAreTheReferences) {
  Compared compared;
  for (const auto& parity_case : testing::parity_cases()) {
    if (!parity_case.has("tok.train.recon_raw")) continue;
    SCOPED_TRACE(parity_case.name);
    auto tokenizer = testing::tokenizer_of(parity_case);
    tokenizer->train();
    const auto x = parity_case.pictures();
    const auto output = tokenizer->forward(x);
    const auto mse = at::mse_loss(output.pictures, x);
    compared.check(parity_case, "tok.train.recon_raw", output.pictures);
    compared.check(parity_case, "tok.train.vq_loss", output.quantized.loss.reshape({1}));
    compared.check(parity_case, "tok.train.mse", mse.reshape({1}));

    (output.quantized.loss + mse).backward();
    const auto parameters = named_parameters(*tokenizer);
    EXPECT_EQ(names_of(parameters), parity_case.json.at("gradient_order").at("vae").get<std::vector<std::string>>());
    std::vector<at::Tensor> norms, firsts;
    for (const auto& [name, parameter] : parameters) {
      const auto gradient = parameter.grad().defined() ? parameter.grad() : at::zeros_like(parameter);
      norms.push_back(gradient.norm());
      firsts.push_back(first64(gradient));
      compared.check(parity_case, "tok.train.grad.full." + name, gradient);
    }
    compared.check(parity_case, "tok.train.grad.l2", at::stack(norms));
    compared.check(parity_case, "tok.train.grad.first64", at::stack(firsts));
    compared.end_case(parity_case);
  }
}

TEST(ParityTokenizerTraining, GradientsAtTheQuantizersInputAreTheReferences) {
  Compared compared;
  for (const auto& parity_case : testing::parity_cases()) {
    if (!parity_case.has("tok.train.grad_f")) continue;
    SCOPED_TRACE(parity_case.name);
    auto tokenizer = testing::tokenizer_of(parity_case);
    tokenizer->train();
    const auto x = parity_case.pictures();
    auto f = tokenizer->features(x).detach().requires_grad_(true);

    const auto output = tokenizer->quantizer()->forward(f);
    (output.loss + at::mse_loss(tokenizer->decode_raw(output.f_hat), x)).backward();
    compared.check(parity_case, "tok.train.grad_f", f.grad());

    f.mutable_grad().reset();
    tokenizer->zero_grad();
    tokenizer->quantizer()->forward(f).loss.backward();
    compared.check(parity_case, "tok.train.grad_f_vq_only", f.grad());
    compared.check(parity_case, "tok.train.grad_codebook_vq_only", tokenizer->quantizer()->codebook().grad());
    compared.end_case(parity_case);
  }
}

TEST(ParityTokenizerTraining, RunningHitsAndUsagesAreTheReferences) {
  Compared compared;
  for (const auto& parity_case : testing::parity_cases()) {
    if (!parity_case.has("tok.usage.hits_ema.0")) continue;
    SCOPED_TRACE(parity_case.name);
    auto tokenizer = testing::tokenizer_of(parity_case);
    tokenizer->train();
    const at::NoGradGuard no_grad;
    const auto batches = parity_case.json.at("usage_batches").get<std::vector<std::vector<int64_t>>>();
    for (size_t n = 0; n < batches.size(); ++n) {
      const auto f = tokenizer->features(parity_case.pictures(batches[n]));
      tokenizer->quantizer()->forward(f);
      compared.check(parity_case, "tok.usage.hits_ema." + std::to_string(n),
                     find_tensor(state_dict(*tokenizer), "quantize.ema_vocab_hit_SV"));
      const auto usages = tokenizer->quantizer()->reference_usages(f.size(0) * f.size(2) * f.size(3));
      const auto expected = parity_case.json.at("usages_percent").at(n).get<std::vector<double>>();
      EXPECT_TRUE(all_close(at::tensor(usages, at::kDouble), at::tensor(expected, at::kDouble), {.absolute = 1e-4}));
      compared.count();
    }
    const auto recorded = find_tensor(tokenizer->quantizer()->training_state(), "recorded_hits").item<int64_t>();
    EXPECT_EQ(recorded, parity_case.json.at("usage_record_hit_after").get<int64_t>());
    compared.end_case(parity_case);
  }
}

TEST(ParityTokenizerNames, EveryCasesStateDictHasTheReferencesNamesInOrder) {
  Compared compared;
  for (const auto& parity_case : testing::parity_cases()) {
    SCOPED_TRACE(parity_case.name);
    Tokenizer tokenizer(testing::tokenizer_options_of(parity_case));
    const auto own = state_dict(*tokenizer);
    EXPECT_EQ(names_of(own), parity_case.weight_names("vae"));
    compared.count(static_cast<int64_t>(own.size()));
    compared.end_case(parity_case);
  }
}

TEST(ParityTokenizerNames, ThePublishedTokenizerHasTheReferencesNamesShapesAndCounts) {
  const auto expected = testing::fixture_table("names.json").at("vae_ch160v4096z32");
  Tokenizer tokenizer(tokenizer_preset("paper", 256, 3));
  const auto own = state_dict(*tokenizer);
  ASSERT_EQ(own.size(), expected.at("state_dict").size());
  for (size_t i = 0; i < own.size(); ++i) {
    EXPECT_EQ(own[i].first, expected.at("state_dict")[i].at(0).get<std::string>());
    EXPECT_EQ(own[i].second.sizes().vec(), expected.at("state_dict")[i].at(1).get<std::vector<int64_t>>())
        << own[i].first;
  }
  int64_t parameters = 0;
  for (const auto& [name, parameter] : named_parameters(*tokenizer)) parameters += parameter.numel();
  EXPECT_EQ(parameters, expected.at("parameters").get<int64_t>());
  EXPECT_EQ(
      tokenizer_preset("paper", 512, 3).quantizer.sides,
      testing::fixture_table("names.json").at("vae_ch160v4096z32_at_512").at("sides").get<std::vector<int64_t>>());
}

TEST(ParityPhiIndex, EveryScaleTakesTheReferencesPhi) {
  const auto rows = testing::fixture_table("phi_index.json").at("rows");
  ASSERT_FALSE(rows.empty());
  for (const auto& row : rows) {
    const auto scales = row.at("K").get<int64_t>();
    const auto share = row.at("share").get<int64_t>();
    std::vector<int64_t> own;
    for (int64_t k = 0; k < scales; ++k) own.push_back(phi_index(k, scales, share == 0 ? scales : share));
    EXPECT_EQ(own, row.at("index").get<std::vector<int64_t>>()) << "share " << share << ", K " << scales;
  }
}

}  // namespace
}  // namespace nextscale
