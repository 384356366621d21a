// The loops must not wait for the device without being asked to.
#include "nextscale/tests/gpu/copies.h"

#include <cstdio>
#include <utility>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/sample/sampler.h"
#include "nextscale/tests/gpu/device.h"
#include "nextscale/tests/gpu/models.h"
#include "nextscale/tests/train/toy_tokens.h"

namespace nextscale::testing {
namespace {

TEST(CopyCounter, SeesCopiesToAnotherDevice) {
  const auto values = at::ones({5});
  const CopyCounter counter;
  at::empty({5}, at::kMeta).copy_(values);  // "meta" is a device without memory, so this runs everywhere
  EXPECT_GT(values.clone().add(1).sum().item<double>(), 0);
  EXPECT_EQ(counter.counts().to_device, 1);
  EXPECT_EQ(counter.counts().device_bytes, 20);
  EXPECT_EQ(counter.counts().to_cpu, 0);
}

// Needs a GPU: reading a value on the CPU is no copy. The counter's sums are tested above on any machine.
class CopiesOnDevice : public OnDevice {};

TEST_F(CopiesOnDevice, TheCounterSeesWaiting) {
  if (device_.is_cpu()) GTEST_SKIP() << "nothing waits for the CPU";
  const auto value = at::ones({}, device_);
  const CopyCounter counter;
  value.item<float>();
  value.cpu();
  EXPECT_EQ(counter.counts().to_cpu, 2);
}

TEST_F(CopiesOnDevice, ATrainingStepAsksTheDeviceForNothing) {
  auto recipe = tiny_transformer_recipe();
  auto source = tokens_from_cache(toy_cache(), recipe.loop.batch, 3, device_);
  recipe.model = fit_to_tokens(recipe.model, source->quantizer(), kToyClasses);
  TransformerTrainer trainer(recipe, std::move(source), 100, 3, device_, at::kBFloat16, {});
  trainer.step(0, true);  // tokens of a block of steps go over together
  constexpr int64_t kSteps = 4;
  const CopyCounter counter;
  for (int64_t step = 1; step <= kSteps; ++step) trainer.step(step, false);
  const auto found = counter.counts();
  std::printf("  %ld steps: %s\n", static_cast<long>(kSteps), found.text().c_str());
  EXPECT_EQ(found.to_cpu, 0) << found.text();
  EXPECT_LE(found.device_bytes, kSteps * 4096) << found.text();  // which labels are dropped, which blocks are skipped
}

TEST_F(CopiesOnDevice, SamplingAsksOnceABatch) {
  auto tokenizer = fast_tokenizer();
  auto transformer = middling_transformer(tokenizer->options().quantizer);
  transformer->to(device_);
  tokenizer->to(device_);
  auto generator = make_generator(0);
  const CopyCounter counter;
  sample_pictures(transformer, tokenizer, labels_of(8), {.dtype = at::kBFloat16}, generator);
  const auto found = counter.counts();
  std::printf("  a batch of 8: %s\n", found.text().c_str());
  EXPECT_LE(found.to_cpu, 1) << found.text();  // whether the logits were finite, at the end
  // Labels, and the draws of each scale: they are the CPU's stream, so that a seed means the same on every device.
  EXPECT_LE(found.to_device, 2 * tokenizer->scales().count() + 8) << found.text();
}

TEST_F(CopiesOnDevice, SamplingByTheDevicesDrawsSendsItLabelsOnly) {
  auto tokenizer = fast_tokenizer();
  auto transformer = middling_transformer(tokenizer->options().quantizer);
  transformer->to(device_);
  tokenizer->to(device_);
  auto generator = make_generator(0, device_);
  const CopyCounter counter;
  sample_pictures(transformer, tokenizer, labels_of(8), {.dtype = at::kBFloat16}, generator);
  const auto found = counter.counts();
  std::printf("  a batch of 8: %s\n", found.text().c_str());
  EXPECT_LE(found.to_cpu, 1) << found.text();
  EXPECT_LE(found.to_device, 8) << found.text();
}

TEST_F(CopiesOnDevice, EncodingAndDecodingAskForNothing) {
  auto tokenizer = fast_tokenizer();
  tokenizer->to(device_);
  const at::NoGradGuard no_grad;
  const auto pictures = at::zeros({8, 3, 64, 64}, device_);
  tokenizer->decode(tokenizer->encode(pictures));  // what is prepared once may be
  const CopyCounter counter;
  tokenizer->decode(tokenizer->encode(pictures));
  const auto found = counter.counts();
  std::printf("  a batch of 8: %s\n", found.text().c_str());
  EXPECT_EQ(found.to_cpu, 0) << found.text();
  EXPECT_LE(found.device_bytes, 1 << 16) << found.text();
}

}  // namespace
}  // namespace nextscale::testing
