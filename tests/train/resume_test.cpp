#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/stop.h"
#include "nextscale/tests/support/temporary_directory.h"
#include "nextscale/tests/train/toy_pictures.h"
#include "nextscale/tests/train/toy_tokens.h"
#include "nextscale/train/loop.h"

namespace nextscale {
namespace {

using testing::read_file;
using testing::TemporaryDirectory;

constexpr int64_t kSteps = 24;
using MakeTrainee = std::function<std::unique_ptr<Trainee>()>;

std::unique_ptr<Trainee> tokenizer_trainer() {
  auto recipe = testing::tiny_tokenizer_recipe();
  recipe.model.dropout = 0.1;
  recipe.training.continuous = 0.25;  // 6 steps without codes
  recipe.training.quantizer_dropout = 0.3;
  recipe.training.quantizer_dropout_from = 1;
  return std::make_unique<TokenizerTrainer>(recipe, testing::squares(), testing::one_worker(), kSteps, 3, at::kCPU,
                                            at::kBFloat16);
}

std::unique_ptr<Trainee> gradient_tokenizer_trainer() {
  auto recipe = testing::tiny_tokenizer_recipe();
  recipe.training.continuous = 0;
  recipe.training.codebook_decay = 0;
  recipe.training.restart_share = 0.5;
  return std::make_unique<TokenizerTrainer>(recipe, testing::squares(), testing::one_worker(), kSteps, 3, at::kCPU,
                                            at::kFloat);
}

std::unique_ptr<Trainee> adversarial_tokenizer_trainer() {
  auto recipe = testing::tiny_tokenizer_recipe();
  recipe.adversary = testing::tiny_adversary();
  return std::make_unique<TokenizerTrainer>(recipe, testing::squares(), testing::one_worker(), kSteps, 3, at::kCPU,
                                            at::kBFloat16);
}

std::unique_ptr<Trainee> transformer_trainer_in(at::ScalarType dtype) {
  auto recipe = testing::tiny_transformer_recipe();
  recipe.model.drop_path = 0.2;
  recipe.model.drop_rate = 0.1;
  return std::make_unique<TransformerTrainer>(
      testing::toy_trainer(recipe, testing::toy_cache(40, 2), kSteps, /*seed=*/3, dtype));
}

void call(const std::filesystem::path& folder, Trainee& trainee, int64_t max_steps) {
  const StopOnSignal stop;
  Run run(folder, "test", nlohmann::json::object(), {}, "test");
  LoopOptions options;
  options.batch = 8;
  options.max_steps = max_steps;
  options.save_every = 5;
  run_loop(run, trainee, options, kSteps, stop, /*quiet=*/true);
}

std::string final_file(const std::filesystem::path& folder, const std::string& name) {
  return read_file(folder / "checkpoints/step_00000024" / name);
}

/// Forgets what it reads of one file's state: a resume that is not exact.
class Forgetful : public Trainee {
 public:
  explicit Forgetful(std::unique_ptr<Trainee> inner) : inner_(std::move(inner)) {}
  StepReport step(int64_t step, bool report) override { return inner_->step(step, report); }
  std::map<std::string, double> validate(int64_t step) override { return inner_->validate(step); }
  void save(const CheckpointWriter& checkpoint) override { inner_->save(checkpoint); }
  void load(const std::filesystem::path&) override {}
  void save_snapshot(const std::filesystem::path& path) override { inner_->save_snapshot(path); }

 private:
  std::unique_ptr<Trainee> inner_;
};

void expect_exact_resume(const MakeTrainee& make, const std::vector<int64_t>& stops,
                         const std::vector<std::string>& more = {}) {
  const TemporaryDirectory folder;
  call(folder / "whole", *make(), 0);
  for (const int64_t stop : stops) {
    SCOPED_TRACE(stop);
    const auto run = folder / std::to_string(stop);
    call(run, *make(), stop);
    call(run, *make(), 0);
    std::vector<std::string> files = {"model.safetensors", "ema.safetensors", "optimizer.safetensors"};
    files.insert(files.end(), more.begin(), more.end());
    for (const auto& name : files) EXPECT_EQ(final_file(run, name), final_file(folder / "whole", name)) << name;
  }
  // The comparison can fail: without the checkpoint's state the run ends elsewhere.
  call(folder / "control", *make(), 13);
  Forgetful forgetful(make());
  call(folder / "control", forgetful, 0);
  EXPECT_NE(final_file(folder / "control", "model.safetensors"), final_file(folder / "whole", "model.safetensors"));
}

TEST(Resume, TokenizerTrainingEndsInTheSameBits) {
  // Without codes, at the k-means, right after it, and between restarts.
  expect_exact_resume(tokenizer_trainer, {3, 6, 7, 17});
}

TEST(Resume, TokenizerTrainingWithAGradientCodebookEndsInTheSameBits) {
  expect_exact_resume(gradient_tokenizer_trainer, {11});
}

TEST(Resume, TokenizerTrainingAgainstAnAdversaryEndsInTheSameBits) {
  // Before its start, in its ramp and blur, and after both.
  expect_exact_resume(adversarial_tokenizer_trainer, {4, 8, 19},
                      {"discriminator.safetensors", "discriminator_optimizer.safetensors"});
}

TEST(Resume, TransformerTrainingEndsInTheSameBits) {
  expect_exact_resume([] { return transformer_trainer_in(at::kFloat); }, {1, 9, 20});
}

TEST(Resume, TransformerTrainingByRoundedCopiesEndsInTheSameBits) {
  expect_exact_resume([] { return transformer_trainer_in(at::kBFloat16); }, {1, 9, 20});
}

}  // namespace
}  // namespace nextscale
