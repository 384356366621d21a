// Training's arithmetic against the Python reference: schedules, parameter groups, AdamW steps with clipping and
// accumulation, validation numbers, the stages of progressive training.
#include "nextscale/train/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/tests/parity/case_models.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/train/progressive.h"
#include "nextscale/train/schedule.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {
namespace {

using testing::Compared;
using testing::fixture_table;
using testing::parity_cases;
using testing::ParityCase;

TEST(ParitySchedules, RatesAreTheReferences) {
  int64_t compared = 0;
  const auto schedules = fixture_table("schedules.json");
  for (const auto& run : schedules.at("runs")) {
    const auto& steps = run.at("cur_it");
    // The reference rounds the warm-up half to even.
    const auto warmup = std::llrint(run.at("wp_it").get<double>());
    for (size_t i = 0; i < steps.size(); ++i) {
      const auto rates = reference_rates(run.at("sche"), run.at("peak_lr"), run.at("wd"), run.at("wd_end"), steps[i],
                                         warmup, run.at("max_it"), run.at("wp0"), run.at("wpe"));
      const double lr = run.at("lr")[i];
      const double decay = run.at("wd_out")[i];
      EXPECT_NEAR(rates.lr, lr, 1e-12 * std::abs(lr)) << run.at("sche") << " step " << steps[i];
      EXPECT_NEAR(rates.weight_decay, decay, 1e-12 * std::abs(decay)) << run.at("sche") << " step " << steps[i];
      ++compared;
    }
  }
  std::printf("compared schedules: %lld rates\n", static_cast<long long>(compared));
  EXPECT_GT(compared, 0);
}

TEST(ParitySchedules, ARunsRatesAreTheReferencesWithItsWarmUpAsAShare) {
  // The reference's defaults: lin0, warm-up 1/50 of the epochs, weight decay constant.
  const ScheduleOptions options{.lr = 3e-4, .weight_decay = 0.05, .schedule = "lin0", .warmup = 0.02, .lr_end = 0.01};
  for (int64_t step = 0; step < 1000; ++step) {
    const auto expected = reference_rates("lin0", 3e-4, 0.05, 0.05, step, 20, 1000, 0.005, 0.01);
    const auto rates = rates_at(options, step, 1000);
    EXPECT_DOUBLE_EQ(rates.lr, expected.lr) << step;
    EXPECT_DOUBLE_EQ(rates.weight_decay, expected.weight_decay) << step;
  }
}

TEST(ParityParameterGroups, NamesAndOrderAreTheReferences) {
  int64_t compared = 0;
  const auto groups = fixture_table("param_groups.json");
  for (const auto& [model, entry] : groups.items()) {
    if (!entry.is_object() || !entry.contains("groups")) continue;
    const TransformerOptions options{.codes = 16,
                                     .code_width = 4,
                                     .sides = {1, 2, 3},
                                     .classes = 3,
                                     .depth = 2,
                                     .width = 16,
                                     .heads = 2,
                                     .shared_aln = model == "shared_adaln",
                                     .attn_l2_norm = model != "own_adaln_without_l2_norm"};
    const Transformer transformer(options);
    const auto parameters = named_parameters(*transformer);
    std::vector<std::string> names;
    for (const auto& [name, tensor] : parameters) names.push_back(name);
    EXPECT_EQ(names, entry.at("order_of_all").get<std::vector<std::string>>()) << model;

    const auto own = AdamW(parameters, {}, transformer_parameter_decays).group_names();
    ASSERT_EQ(entry.at("groups").size(), own.size()) << model;
    for (size_t i = 0; i < own.size(); ++i) {
      EXPECT_EQ(own[i], entry.at("groups")[i].at("names").get<std::vector<std::string>>()) << model << " group " << i;
      EXPECT_EQ(entry.at("groups")[i].at("wd_sc").get<double>(), i == 0 ? 0.0 : 1.0) << model;
    }
    ++compared;
  }
  std::printf("compared parameter groups: %lld models\n", static_cast<long long>(compared));
  EXPECT_GT(compared, 0);
}

TEST(ParityProgressive, StagesAndWeightsAreTheReferences) {
  int64_t compared = 0;
  const auto progressive = fixture_table("progressive.json");
  for (const auto& run : progressive.at("runs")) {
    const double per_epoch = run.at("iters_per_epoch");
    const ProgressiveOptions options{.share = run.at("pg"),
                                     .first_scale = run.at("pg0"),
                                     .warmup_steps = run.at("wp_epochs").get<double>() * per_epoch,
                                     .stage_warmup_steps = run.at("pgwp_effective").get<double>() * per_epoch};
    const auto scales = run.at("prog_si").get<std::vector<int64_t>>();
    const auto weights = run.at("prog_wp").get<std::vector<double>>();
    const auto steps = static_cast<int64_t>(scales.size());
    for (int64_t step = 0; step < steps; ++step) {
      const auto stage = progressive_stage(options, step, steps, run.at("scales"));
      EXPECT_EQ(stage.newest_scale, scales[static_cast<size_t>(step)]) << run.at("pg") << " step " << step;
      EXPECT_NEAR(stage.newest_weight, weights[static_cast<size_t>(step)], 1e-12) << run.at("pg") << " step " << step;
      ++compared;
    }
  }
  std::printf("compared progressive training: %lld steps\n", static_cast<long long>(compared));
  EXPECT_GT(compared, 0);
}

/// Tokenizer and transformer of a case with the recipe's weights.
class Models {
 public:
  explicit Models(const ParityCase& c)
      : transformer(without_stochastic_depth(c)), tokenizer_(testing::tokenizer_of(c)) {}

  const Scales& scales() const { return transformer->scales(); }
  /// (B, C, H, W) -> (B, L)
  at::Tensor tokens(const at::Tensor& pictures) {
    const at::NoGradGuard no_grad;
    return tokenizer_->encode(pictures);
  }
  /// (B), (B, L) -> logits (B, L, V)
  at::Tensor logits(const at::Tensor& labels, const at::Tensor& tokens) {
    at::Tensor inputs;
    {
      const at::NoGradGuard no_grad;
      inputs = tokenizer_->quantizer()->teacher_forcing_input(tokens);  // (B, L - l_0, Cvae)
    }
    return transformer->forward(labels, inputs);
  }

  Transformer transformer;

 private:
  static Transformer without_stochastic_depth(const ParityCase& c) {
    auto options = testing::transformer_options_of(c);
    options.drop_path = 0;
    return testing::transformer_of(c, options);
  }

  Tokenizer tokenizer_;
};

at::Tensor numbers(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

double cross_entropy(const at::Tensor& logits, const at::Tensor& tokens) {
  return at::cross_entropy_loss(logits.flatten(0, 1), tokens.flatten()).item<double>();
}
double percent_right(const at::Tensor& logits, const at::Tensor& tokens) {
  return 100 * logits.argmax(-1).eq(tokens).to(at::kDouble).mean().item<double>();
}

/// Loss and accuracy of all tokens and of the last scale's ("tail"): L_mean, L_tail, acc_mean, acc_tail.
std::vector<double> mean_and_tail(const at::Tensor& logits, const at::Tensor& tokens, const Scales& scales) {
  const auto last = scales.count() - 1;
  const auto tail_logits = logits.narrow(1, scales.begin(last), scales.area(last));
  const auto tail_tokens = tokens.narrow(1, scales.begin(last), scales.area(last));
  return {cross_entropy(logits, tokens), cross_entropy(tail_logits, tail_tokens), percent_right(logits, tokens),
          percent_right(tail_logits, tail_tokens)};
}

NamedTensors copies(const NamedTensors& named) {
  NamedTensors out;
  for (const auto& [name, tensor] : named) out.emplace_back(name, tensor.detach().clone());
  return out;
}

/// The micro-steps of the reference's trainer that a case describes under optimizer.KIND; every number it left.
void compare_steps(const ParityCase& c, const std::string& kind, Compared& compared) {
  if (!c.json.contains("optimizer") || !c.json.at("optimizer").contains(kind) || !c.has("input.pictures")) return;
  const auto& settings = c.json.at("optimizer").at(kind);
  const double clip = settings.at("grad_clip");
  const double part = 1.0 / settings.at("accumulate").get<double>();
  const double smoothing = settings.at("label_smooth");
  Models models(c);
  models.transformer->train();
  const auto parameters = named_parameters(*models.transformer);
  AdamW optimizer(parameters,
                  {.beta1 = settings.at("betas")[0], .beta2 = settings.at("betas")[1], .eps = settings.at("eps")},
                  transformer_parameter_decays);

  const auto start = copies(parameters);
  std::vector<double> losses, norms;
  std::vector<at::Tensor> statistics, moved;
  int64_t n = 0;
  for (const auto& step : settings.at("micro_steps")) {
    ++n;
    const auto tokens = models.tokens(c.pictures(step.at("pictures")));  // (B, L)
    const auto logits = models.logits(at::tensor(step.at("labels").get<std::vector<int64_t>>()), tokens);
    const auto loss =
        at::cross_entropy_loss(logits.flatten(0, 1), tokens.flatten(), {}, at::Reduction::Mean, -100, smoothing);
    (loss * part).backward();
    losses.push_back(loss.item<double>());
    statistics.push_back(numbers(mean_and_tail(logits.detach(), tokens, models.scales())));
    norms.push_back(-1);
    if (step.at("stepping").get<bool>()) {
      norms.back() = optimizer.clip_gradients(clip).item<double>();
      optimizer.step(step.at("lr"), step.at("wd"));
      optimizer.zero_grad();
    }
    std::vector<double> distances;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const auto difference = parameters[i].second.detach().to(at::kDouble) - start[i].second.to(at::kDouble);
      distances.push_back(difference.norm().item<double>());
      const auto& [name, parameter] = parameters[i];
      compared.check(c, kind + ".after" + std::to_string(n) + "." + name, parameter);
    }
    moved.push_back(numbers(distances));
  }
  std::vector<double> first, second;
  const auto state = optimizer.state();
  for (const auto& [name, parameter] : parameters) {
    first.push_back(find_tensor(state, name + ".exp_avg").norm().item<double>());
    second.push_back(find_tensor(state, name + ".exp_avg_sq").norm().item<double>());
  }
  compared.check(c, kind + ".loss", numbers(losses));
  compared.check(c, kind + ".grad_norm", numbers(norms));
  compared.check(c, kind + ".Lm_Lt_Accm_Acct", at::stack(statistics));
  compared.check(c, kind + ".moved_l2", at::stack(moved));
  compared.check(c, kind + ".exp_avg_l2", numbers(first));
  compared.check(c, kind + ".exp_avg_sq_l2", numbers(second));
  compared.end_case(c);
}

TEST(ParityAdamW, ThreeStepsOfTheTrainerWithClippingAreTheReferences) {
  Compared compared;
  for (const auto& c : parity_cases()) compare_steps(c, "adamw", compared);
}

TEST(ParityAccumulation, TwoStepsOfTwoMicroStepsAreTheReferences) {
  Compared compared;
  for (const auto& c : parity_cases()) compare_steps(c, "accumulate", compared);
}

TEST(ParityEvaluation, ValidationOverUnequalBatchesIsTheReferences) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    if (!c.has("eval.values") || !c.has("input.pictures")) continue;
    const at::NoGradGuard no_grad;
    Models models(c);
    models.transformer->eval();
    const auto& evaluation = c.json.at("evaluation");
    const auto labels = at::tensor(evaluation.at("labels").get<std::vector<int64_t>>());
    auto sums = at::zeros({4}, at::kDouble);
    int64_t count = 0;
    for (const auto& batch : evaluation.at("batches")) {
      const auto chosen = batch.get<std::vector<int64_t>>();
      const auto tokens = models.tokens(c.pictures(chosen));
      const auto size = static_cast<int64_t>(chosen.size());
      const auto logits = models.logits(labels.narrow(0, count, size), tokens);
      sums += numbers(mean_and_tail(logits, tokens, models.scales())) * size;
      count += size;
    }
    compared.check(c, "eval.values", sums / count);
    compared.end_case(c);
  }
}

}  // namespace
}  // namespace nextscale
