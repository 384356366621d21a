#include <cmath>

#include "nextscale/base/error.h"
#include "nextscale/train/transformer_trainer.h"

namespace nextscale {
namespace {

/// What the published commands have in common (the reference's README): 2 % warm-up, flat for 5 %, then linear.
TransformerRecipe published(const TransformerOptions& model, double lr_per_256, double epochs) {
  return {.model = model,
          .training = {},
          .schedule = {.weight_decay = 0.05, .schedule = "lin0", .warmup = 0.02, .warmup_start = 0.005, .lr_end = 0.01},
          .loop = {.batch = 768, .epochs = epochs},
          .lr_per_256 = lr_per_256};
}

TransformerRecipe d16_family(const TransformerOptions& model, double epochs) {
  auto recipe = published(model, 1e-4, epochs);
  recipe.model.init_adaln_gamma = 1e-3;
  recipe.schedule.lr_end = 0.1;
  return recipe;
}

TransformerRecipe fast() {
  TransformerRecipe recipe;
  recipe.model = transformer_preset("fast");
  // Many updates with few pictures each: at equal pictures, batch 8 ends 1.4 nats below batch 128.
  recipe.loop = {.batch = 8, .steps = kFastTransformerSteps};
  recipe.validations = 5;
  recipe.schedule = {
      .lr = 1.5e-3, .weight_decay = 0.05, .schedule = "cos", .warmup = 0.018, .warmup_start = 0.01, .lr_end = 0.02};
  recipe.training.ema = 0.995;
  return recipe;
}

}  // namespace

TransformerRecipe transformer_recipe(const std::string& preset) {
  if (preset == "fast") return fast();
  const auto model = transformer_preset(preset);  // throws for another name
  if (preset == "d16") return d16_family(model, 200);
  if (preset == "d20") return d16_family(model, 250);
  auto recipe = published(model, 8e-5, 350);
  if (preset == "d24") recipe.model.init_adaln_gamma = 1e-4;
  if (preset == "d30") {
    recipe.loop.batch = 1024;
    recipe.model.init_adaln_gamma = 1e-5;
    recipe.schedule.weight_decay_end = 0.08;
  }
  if (preset == "d36-s") {
    recipe.model.init_adaln_gamma = 5e-6;
    recipe.schedule.weight_decay_end = 0.08;
  }
  return recipe;
}

TransformerRecipe transformer_recipe(int64_t depth) {
  auto recipe = transformer_recipe("d16");
  recipe.model.depth = depth;
  recipe.model.width = 64 * depth;
  recipe.model.heads = depth;
  recipe.model.drop_path = 0.1 * static_cast<double>(depth) / 24;
  return recipe;
}

}  // namespace nextscale
