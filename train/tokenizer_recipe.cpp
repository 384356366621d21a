#include "nextscale/train/tokenizer_trainer.h"

namespace nextscale {
namespace {

// LPIPS was trained on larger patches than these; the authors' trainer leaves it out below this side too.
constexpr int64_t kSmallestPerceptualSide = 48;

/// What the authors' trainer does (FoundationVision/vaex), as far as it is known; the restart of unused codes is ours,
/// after what its code hints at.
void follow_paper(TokenizerRecipe& recipe, int64_t picture_side) {
  recipe.training = {};
  recipe.training.perceptual = picture_side >= kSmallestPerceptualSide ? 1.0 : 0.0;
  recipe.adversary = {.discriminator = "dino", .consistency = 8, .augment = 1, .blur_fade = 0.04};
  recipe.model.dropout = 0.05;
  recipe.schedule = {
      .lr = 3e-4, .weight_decay = 0.005, .schedule = "cos", .warmup = 0.01, .warmup_start = 0.005, .lr_end = 0.3};
  recipe.loop = {.batch = 768, .epochs = 250};
}

/// Plain and sturdy: L1, LPIPS and a PatchGAN as VQGAN has them, with our guards of the codebook.
void follow_vqgan(TokenizerRecipe& recipe, int64_t picture_side) {
  recipe.training = {.l1 = 1, .l2 = 0, .continuous = 0.01, .codebook_decay = 0.99};
  recipe.training.perceptual = picture_side >= kSmallestPerceptualSide ? 1.0 : 0.0;
  recipe.adversary = {.discriminator = "patchgan",
                      .adversarial = 0.8,
                      .adaptive_eps = 1e-4,
                      .adaptive_low = 0,
                      .discriminator_lr = 1e-4,
                      .hinge = 0.5,
                      .lecam = 0.001};
  recipe.schedule = {
      .lr = 1e-4, .weight_decay = 0.005, .schedule = "cos", .warmup = 0.01, .warmup_start = 0.005, .lr_end = 0.3};
  recipe.loop = {.batch = 256, .epochs = 100};
}

/// Found by trial for pictures up to 64 px on two processor cores; needs no published weights. The adversary is off;
/// its numbers are those of --discriminator patchgan for such pictures.
void follow_fast(TokenizerRecipe& recipe) {
  recipe.training = {
      .continuous = 0.1, .codebook_decay = 0.99, .restart_every = 20, .beta1 = 0.9, .beta2 = 0.95, .ema = 0.99};
  recipe.adversary = {.adversarial = 0.1,
                      .adaptive = false,
                      .adversary_start = 0.5,
                      .discriminator_width = 32,
                      .discriminator_layers = 2,
                      .hinge = 0.5};
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
  } else if (preset == "vqgan") {
    follow_vqgan(recipe, picture_side);
  } else {
    follow_paper(recipe, picture_side);
  }
  return recipe;
}

}  // namespace nextscale
