// DINO's ViT-S/16 with the recipe's weights, its preparation and its position embeddings against the published code.
#include "nextscale/networks/dino.h"

#include <array>
#include <string>

#include <gtest/gtest.h>

#include "nextscale/networks/folded_convolution.h"
#include "nextscale/tests/parity/perceptual.h"

namespace nextscale {
namespace {

using testing::Nearness;
using Gelu = DinoOptions::Gelu;

constexpr Nearness kFloat32{.values = 1e-5, .gradients = 1e-4};
constexpr Nearness kFloat64{.values = 2e-7, .gradients = 2e-7};

class ParityDino : public ::testing::Test {
 protected:
  Dino network(Gelu gelu) const {
    Dino made(DinoOptions{.gelu = gelu});
    load_published(*made, recipe_.weights("dino_vits16"), "recipe");
    return made;
  }
  void compare_taps(const std::string& name, const std::vector<at::Tensor>& taps) {
    ASSERT_EQ(taps.size(), 5U);
    for (size_t k = 0; k < taps.size(); ++k) {
      const auto tap = name + "/tap" + std::to_string(k) + "/";
      file_.value(tap + "first", taps[k].slice(1, 0, 8).slice(2, 0, 8), kFloat32);
      file_.value(tap + "token_norms", taps[k].norm(2, 1), kFloat32);
      file_.value(tap + "channel_means", taps[k].mean(2), kFloat32);
    }
    file_.end_case(name);
  }

  testing::PerceptualFixture recipe_{""};
  testing::PerceptualFile file_{"dino.safetensors"};
};

TEST_F(ParityDino, TapsAreThePublishedNetworks) {
  const at::NoGradGuard no_grad;
  const auto pictures = recipe_.input("dino/x224");
  compare_taps("features_gelu_erf", network(Gelu::erf)->taps(pictures));
  compare_taps("features_gelu_tanh", network(Gelu::tanh)->taps(pictures));
  EXPECT_GE(file_.ended(), 12U);
}

TEST_F(ParityDino, ClassTokenIsItsOwnAnswer) {
  const at::NoGradGuard no_grad;
  file_.value("forward_cls/cls", network(Gelu::erf)->class_token(recipe_.input("dino/x224")), kFloat32);
  file_.end_case("forward_cls");
  EXPECT_EQ(file_.ended(), 1U);
}

TEST_F(ParityDino, TapsOfAnotherSizeHaveTheBilinearPositions) {
  const at::NoGradGuard no_grad;
  compare_taps("features_other_size", network(Gelu::erf)->taps(recipe_.input("dino/x224_other_size")));
  EXPECT_GE(file_.ended(), 1U);
}

TEST_F(ParityDino, PositionsOnOtherGrids) {
  const auto embedding = find_tensor(recipe_.weights("dino_vits16"), "pos_embed");
  for (const auto& [kind, resize] : {std::pair{"pos_bilinear", PositionResize::bilinear},
                                     std::pair{"pos_bicubic_scale", PositionResize::bicubic_scale}}) {
    for (const auto& [rows, columns] : {std::pair{16, 12}, std::pair{10, 10}, std::pair{28, 28}}) {
      const auto name = std::string(kind) + "/" + std::to_string(rows) + "x" + std::to_string(columns);
      const auto position = dino_position(embedding, rows, columns, resize)[0];
      file_.value(name + "/first4", position.slice(1, 0, 4), kFloat32);
      file_.value(name + "/norm", position.norm(), kFloat32);
      file_.end_case(name);
    }
  }
  EXPECT_GE(file_.ended(), 4U);
}

TEST_F(ParityDino, PreparationOfSmallAndLargePictures) {
  for (const auto* name : {"prepare/area256", "prepare/crop288x256", "prepare/bicubic64", "prepare/area320x240"}) {
    std::optional<DinoCrop> crop;
    if (const auto& corner = recipe_.cases().at("dino/" + std::string(name)).at("crop_top_left"); !corner.is_null()) {
      crop = DinoCrop{.top = corner.at(0), .left = corner.at(1)};
    }
    const auto prepared = dino_prepare(recipe_.input("dino/" + std::string(name)), crop);
    const auto prefix = name + std::string("/");
    EXPECT_EQ(prepared.sizes(), at::IntArrayRef({1, 3, 224, 224}));
    file_.value(prefix + "corner", prepared.slice(2, 0, 6).slice(3, 0, 6), kFloat32);
    file_.value(prefix + "last_corner", prepared.slice(2, -6).slice(3, -6), kFloat32);
    file_.value(prefix + "row_means", prepared.mean(3).slice(2, 0, std::nullopt, 8), kFloat32);
    file_.value(prefix + "norm", prepared.norm(), kFloat32);
    file_.end_case(name);
  }
  EXPECT_EQ(file_.ended(), 16U);
}

TEST_F(ParityDino, GradientReachesThePicture) {
  auto dino = network(Gelu::tanh);
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    SCOPED_TRACE(dtype);
    const auto& near = dtype == at::kFloat ? kFloat32 : kFloat64;
    dino->to(dtype);
    auto pictures = recipe_.input("dino/grad64").to(dtype).requires_grad_();
    const auto taps = dino->taps(dino_prepare(pictures));
    auto loss = at::zeros({}, dtype);
    for (size_t k = 0; k < taps.size(); ++k) {
      loss = loss + (taps[k] * recipe_.input("dino/grad64/coef" + std::to_string(k)).to(dtype)).mean();
    }
    loss.backward();
    file_.value("gradient/loss", loss, near);
    file_.gradient("gradient/grad_x", pictures.grad(), near);
    for (const auto& parameter : dino->parameters()) EXPECT_FALSE(parameter.grad().defined());
  }
  file_.end_case("gradient");
  EXPECT_EQ(file_.ended(), 2U);
}

}  // namespace
}  // namespace nextscale
