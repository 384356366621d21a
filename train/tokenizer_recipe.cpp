#include "nextscale/train/tokenizer_trainer.h"

namespace nextscale {
namespace {

/// What the authors' trainer does (FoundationVision/vaex) but for its perceptual and adversarial terms; the restart of
/// unused codes is ours, a guard that the published sizes can be trained without collapse.
void follow_published(TokenizerRecipe& recipe) {
  recipe.training = {};
  recipe.model.dropout = 0.05;
  recipe.schedule = {
      .lr = 3e-4, .weight_decay = 0.005, .schedule = "cos", .warmup = 0.01, .warmup_start = 0.005, .lr_end = 0.3};
  recipe.loop = {.batch = 768, .epochs = 250};
}

/// Found by trial for pictures up to 64 px on two processor cores.
void follow_fast(TokenizerRecipe& recipe) {
  recipe.training = {
      .continuous = 0.1, .codebook_decay = 0.99, .restart_every = 20, .beta1 = 0.9, .beta2 = 0.95, .ema = 0.99};
  recipe.schedule = {
      .lr = 2e-3, .weight_decay = 0.005, .schedule = "cos", .warmup = 0.012, .warmup_start = 0.03, .lr_end = 0.05};
  // Many updates with few pictures each: at equal pictures, batch 32 ends 2.4 dB above batch 128.
  recipe.loop = {.batch = 32, .steps = kFastTokenizerSteps};
  recipe.validations = 5;
}

}  // namespace

TokenizerRecipe tokenizer_recipe(const std::string& preset, int64_t picture_side, int64_t picture_channels) {
  TokenizerRecipe recipe;
  recipe.model = tokenizer_preset(preset, picture_side, picture_channels);
  if (preset == "fast") {
    follow_fast(recipe);
  } else {
    follow_published(recipe);
  }
  return recipe;
}

}  // namespace nextscale
