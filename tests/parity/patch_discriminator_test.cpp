// PatchGAN with the recipe's weights against the published training code's discriminator.
#include "nextscale/networks/patch_discriminator.h"

#include <string>

#include <gtest/gtest.h>

#include "nextscale/tests/parity/perceptual.h"

namespace nextscale {
namespace {

using testing::Nearness;

struct PatchCase {
  std::string name, network;
  at::ScalarType dtype;
  Nearness near;
};

/// One training forward of the generator's, two of the discriminator's, then the evaluation.
void compare(const testing::PerceptualFixture& recipe, testing::PerceptualFile& file, const PatchCase& one) {
  SCOPED_TRACE(one.name + " in " + toString(one.dtype));
  const auto& json = recipe.cases().at(one.name);
  PatchDiscriminator network(PatchDiscriminatorOptions{.width = json.at("ndf"), .layers = json.at("n_layers")});
  testing::put_weights(*network, recipe.weights(one.network));
  network->to(one.dtype);
  const auto real = recipe.input(one.name + "/real").to(one.dtype);
  auto fake = recipe.input(one.name + "/fake").to(one.dtype).requires_grad_();
  const auto prefix = one.name + "/";

  const auto judged = network->forward(fake);
  const auto generator_loss = -judged.mean();
  generator_loss.backward();
  file.value(prefix + "fake_logits", judged, one.near);
  file.value(prefix + "generator_loss", generator_loss, one.near, judged.abs().max().item<double>());
  file.gradient(prefix + "grad_fake_of_generator_loss", fake.grad(), one.near);

  network->zero_grad();
  const auto of_real = network->forward(real), of_fake = network->forward(fake.detach());
  const auto loss = (at::relu(1 - of_real).mean() + at::relu(1 + of_fake).mean()) / 2;
  loss.backward();
  file.value(prefix + "real_logits", of_real, one.near);
  file.value(prefix + "hinge_half_loss", loss, one.near);
  for (const auto& [name, parameter] : named_parameters(*network)) {
    file.gradient(prefix + "grad_of_d/" + name + "/first", parameter.grad().flatten().slice(0, 0, 16), one.near);
    file.gradient(prefix + "grad_of_d/" + name + "/norm", parameter.grad().norm(), one.near);
  }
  for (const auto& [name, buffer] : network->named_buffers().pairs()) {
    file.value(prefix + "after_3_forwards/" + name, buffer, one.near);
  }
  network->eval();
  file.value(prefix + "eval_logits_after", network->forward(real), one.near);
}

TEST(ParityPatchDiscriminator, LogitsGradientsAndStatistics) {
  const testing::PerceptualFixture recipe{""};
  testing::PerceptualFile file("patchgan.safetensors");
  for (const auto& [name, network] : {std::pair{"patchgan/64", "patchgan"}, std::pair{"patchgan/nonsquare", "patchgan"},
                                      std::pair{"patchgan_small/32", "patchgan_small"}}) {
    if (!file.has_case(name)) continue;
    compare(recipe, file, {name, network, at::kFloat, {.values = 1e-5, .gradients = 1e-4}});
    compare(recipe, file, {name, network, at::kDouble, {.values = 2e-7, .gradients = 2e-7}});
    file.end_case(name);
  }
  EXPECT_GE(file.ended(), 20U);
}

TEST(ParityPatchDiscriminator, LayersStandWhereThePlanSays) {
  const testing::PerceptualFixture recipe{""};
  for (const auto* name : {"patchgan/64", "patchgan_small/32"}) {
    const auto& json = recipe.cases().at(name);
    PatchDiscriminator network(PatchDiscriminatorOptions{.width = json.at("ndf"), .layers = json.at("n_layers")});
    const auto entries = state_dict(*network);
    size_t expected = 0;
    for (const auto& row : json.at("plan_conv_stride_norm_act")) {
      const auto has = [&](const nlohmann::json& index, const char* entry) {
        return find_tensor(entries, "main." + std::to_string(index.get<int64_t>()) + "." + entry).defined();
      };
      const bool has_norm = !row.at(2).is_null();
      EXPECT_TRUE(has(row.at(0), "weight")) << row;
      EXPECT_EQ(has(row.at(0), "bias"), !has_norm) << row;
      if (has_norm) {
        EXPECT_TRUE(has(row.at(2), "running_var")) << row;
      }
      expected += has_norm ? 6 : 2;
    }
    EXPECT_EQ(entries.size(), expected);
  }
}

}  // namespace
}  // namespace nextscale
