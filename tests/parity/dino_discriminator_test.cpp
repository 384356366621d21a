// Heads over DINO with the recipe's weights against the published tokenizer training's discriminator.
#include "nextscale/networks/dino_discriminator.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "nextscale/networks/folded_convolution.h"
#include "nextscale/tests/parity/perceptual.h"

namespace nextscale {
namespace {

using testing::Nearness;

// One leaky ReLU that falls on its other side in float32 moves a whole patch's gradient; in float64 none does.
constexpr Nearness kHeads32{.values = 1e-5, .gradients = 3e-2};
constexpr Nearness kHeads64{.values = 2e-7, .gradients = 2e-7};

/// As the published start would have them: u and v of length 1.
NamedTensors with_unit_directions(NamedTensors weights) {
  for (auto& [name, tensor] : weights) {
    if (name.ends_with("weight_u") || name.ends_with("weight_v")) {
      tensor = (tensor.to(at::kDouble) / tensor.to(at::kDouble).norm());
    }
  }
  return weights;
}

class ParityDinoDiscriminator : public ::testing::Test {
 protected:
  /// Three training forwards of one head over made-up features, gradients of the first, then the evaluation.
  void compare_head(const std::string& name, HeadNormKind norm, at::ScalarType dtype) {
    SCOPED_TRACE(name + " in " + toString(dtype));
    const auto& near = dtype == at::kFloat ? kHeads32 : kHeads64;
    const auto& zero = recipe_.cases().at("dinodisc/" + name).at("float32_deviation").at("zero_in_exact_arithmetic");
    const auto gradient = [&](const std::string& what, const at::Tensor& actual) {
      if (std::find(zero.begin(), zero.end(), what) != zero.end()) {
        file_.nothing(name + "/" + what, actual);
      } else {
        file_.gradient(name + "/" + what, actual, near);
      }
    };
    DinoHead head(32, norm);
    head->to(dtype);
    testing::put_weights(*head, with_unit_directions_of_small());
    const auto directions = [&](const std::string& when) {
      for (const auto& [entry, buffer] : head->named_buffers().pairs()) {
        file_.value(name + "/" + when + "/heads.0." + entry, buffer, near);
      }
    };
    auto features = recipe_.input(name + "/x").to(dtype).requires_grad_();

    const auto first = head(features);
    at::relu(1 - first).mean().backward();
    file_.value(name + "/logits_step1", first, near);
    directions("after1");
    gradient("grad_x_of_hinge_real/first", features.grad().flatten().slice(0, 0, 64));
    gradient("grad_x_of_hinge_real/sample_norms", features.grad().flatten(1).norm(2, 1));
    for (const auto& [entry, parameter] : named_parameters(*head)) {
      gradient("grad/heads.0." + entry + "/first", parameter.grad().flatten().slice(0, 0, 16));
      gradient("grad/heads.0." + entry + "/norm", parameter.grad().norm());
    }
    const at::NoGradGuard no_grad;
    head(features);
    file_.value(name + "/logits_step3", head(features), near);
    directions("after3");
    if (norm != HeadNormKind::batch) {
      // The published module has statistics with every norm; those of these two stay as they began.
      for (const auto* entry : {"0.1.", "1.fn.1."}) {
        const auto prefix = name + "/after3/heads.0." + entry;
        file_.nothing(prefix + "running_mean", at::zeros({32}));
        file_.value(prefix + "running_var", at::ones({32}), near);
      }
    }
    head->eval();
    file_.value(name + "/logits_eval", head(features), near);
  }

  NamedTensors with_unit_directions_of_small() const {
    return with_unit_directions(recipe_.weights("dinodisc_small", "heads.0."));
  }

  testing::PerceptualFixture recipe_{""};
  testing::PerceptualFile file_{"dinodisc.safetensors"};
};

TEST_F(ParityDinoDiscriminator, OneHeadWithEachNorm) {
  for (const auto& [name, norm] : {std::pair{"dinodisc_small/virtual_b12", HeadNormKind::virtual_batch},
                                   std::pair{"dinodisc_small/virtual_b4", HeadNormKind::virtual_batch},
                                   std::pair{"dinodisc_small/batch_b4", HeadNormKind::batch},
                                   std::pair{"dinodisc_small/group_b2", HeadNormKind::group}}) {
    if (!file_.has_case(name)) continue;
    compare_head(name, norm, at::kFloat);
    compare_head(name, norm, at::kDouble);
    file_.end_case(name);
  }
  EXPECT_GE(file_.ended(), 60U);
}

TEST_F(ParityDinoDiscriminator, FromPictureToLogitsAndBack) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    SCOPED_TRACE(toString(dtype));
    const auto& near = dtype == at::kFloat ? kHeads32 : kHeads64;
    Dino trunk(DinoOptions{.gelu = DinoOptions::Gelu::tanh});
    load_published(*trunk, recipe_.weights("dino_vits16"), "recipe");
    DinoDiscriminator network(trunk, HeadNormKind::virtual_batch);
    network->to(dtype);
    testing::put_weights(*network, with_unit_directions(recipe_.weights("dinodisc")));
    auto pictures = recipe_.input("dinodisc/64/x").to(dtype);
    {
      const at::NoGradGuard no_grad;
      file_.value("full/64/logits_train_step1", network->logits(pictures), near);
    }
    network->eval();
    pictures.requires_grad_();
    const auto logits = network->logits(pictures);
    const auto loss = -logits.mean();
    loss.backward();
    file_.value("full/64/logits_eval_after_step1", logits, near);
    file_.value("full/64/generator_loss", loss, near);
    file_.gradient("full/64/grad_x_of_generator_loss", pictures.grad(), near);
    file_.value("full/64/u_head0_conv9", find_tensor(state_dict(*network), "heads.0.1.fn.0.weight_u"), near);
  }
  file_.end_case("full/64");
  EXPECT_EQ(file_.ended(), 5U);
}

}  // namespace
}  // namespace nextscale
