#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <ATen/ATen.h>

#include "nextscale/base/random.h"
#include "nextscale/data/dataset.h"
#include "nextscale/train/tokenizer_trainer.h"

namespace nextscale::testing {

/// Grey squares of random place, size and brightness on a dark ground; a bright border in class 1.
class Squares : public Dataset {
 public:
  static constexpr int64_t kSide = 16;
  Squares(int64_t size, uint64_t seed) : size_(size), seed_(seed) {}
  int64_t size() const override { return size_; }
  int64_t label(int64_t i) const override { return i % 2; }
  at::Tensor picture(int64_t i) const override {
    auto generator = make_generator(derived_seed(seed_, static_cast<uint64_t>(i)));
    const auto draw = [&](int64_t low, int64_t high) {
      return at::randint(low, high, {1}, generator, at::kLong).item<int64_t>();
    };
    auto picture = at::full({kSide, kSide, 1}, 20, at::kByte);
    if (label(i) == 1) {
      for (const int64_t edge : {int64_t{0}, kSide - 1}) {
        picture.select(0, edge).fill_(230);
        picture.select(1, edge).fill_(230);
      }
    }
    const int64_t side = draw(4, 10);
    picture.narrow(0, draw(1, kSide - side), side).narrow(1, draw(1, kSide - side), side).fill_(draw(100, 255));
    return picture;
  }
  std::string name(int64_t i) const override { return "squares[" + std::to_string(i) + "]"; }

 private:
  int64_t size_;
  uint64_t seed_;
};

inline DataParts squares(int64_t train = 64, int64_t val = 24) {
  DataParts parts;
  parts.train = std::make_shared<Squares>(train, 1);
  parts.val = std::make_shared<Squares>(val, 2);
  parts.class_names = {"plain", "framed"};
  parts.side = Squares::kSide;
  parts.channels = 1;
  parts.fingerprint = "squares";
  return parts;
}

inline DataOptions one_worker() {
  DataOptions options;
  options.workers = 1;
  return options;
}

/// A tokenizer of a few thousand values, with everything that the fast preset has.
inline TokenizerRecipe tiny_tokenizer_recipe() {
  auto recipe = tokenizer_recipe("fast", Squares::kSide, 1);
  recipe.model.quantizer.codes = 16;
  recipe.model.quantizer.code_width = 4;
  recipe.model.quantizer.sides = {1, 2, 4};
  recipe.model.ch = 8;
  recipe.model.norm_groups = 4;
  recipe.loop.batch = 8;
  recipe.training.restart_every = 2;
  recipe.training.validation_pictures = 16;
  return recipe;
}

/// Everything a PatchGAN of a few hundred values can have, from a quarter of the steps on.
inline AdversaryOptions tiny_adversary() {
  AdversaryOptions options;
  options.discriminator = "patchgan";
  options.adversary_start = 0.25;
  options.adversary_ramp = 0.2;
  options.blur_fade = 0.2;
  options.discriminator_width = 8;
  options.discriminator_layers = 2;
  options.consistency = 2;
  options.lecam = 0.01;
  options.augment = 0.7;
  return options;
}

}  // namespace nextscale::testing
