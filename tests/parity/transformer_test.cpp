// The transformer against the Python reference: logits, losses, gradients, randomness, progressive training, names of
// the published models, initial values.
#include "nextscale/var/transformer.h"

#include <cmath>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/random.h"
#include "nextscale/tests/parity/case_models.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/vqvae/residual_quantizer.h"

namespace nextscale {
namespace {

using testing::Compared;
using testing::fixture_table;
using testing::parity_cases;
using testing::ParityCase;

// (B, L - l_0, Cvae) of all pictures; from the token ids where the case does not hold them.
at::Tensor teacher_forcing_of(const ParityCase& c) {
  if (c.has("tok.x_in")) return c.tensor("tok.x_in");
  const auto& config = c.config();
  ResidualQuantizer quantizer(QuantizerOptions{.codes = config.at("V"),
                                               .code_width = config.at("Cvae"),
                                               .sides = config.at("sides"),
                                               .quant_resi = config.at("quant_resi"),
                                               .share_quant_resi = config.at("share_quant_resi"),
                                               .znorm = config.at("using_znorm"),
                                               .beta = config.at("beta")});
  const auto weights = c.weights("vae");
  NamedTensors own = state_dict(*quantizer);
  for (auto& [name, tensor] : own) {
    if (const auto given = find_tensor(weights, "quantize." + name); given.defined()) tensor = given;
  }
  load_state_dict(*quantizer, own, c.name);
  const at::NoGradGuard no_grad;
  return quantizer->teacher_forcing_input(c.tensor("tok.ids"));
}

// What the transformer part of a case works on: its first pictures, one for each label.
struct Lesson {
  at::Tensor labels, inputs, tokens;  // (B), (B, L - l_0, Cvae), (B, L)
};

Lesson lesson_of(const ParityCase& c, const nlohmann::json& labels) {
  const auto list = labels.get<std::vector<int64_t>>();
  const auto count = static_cast<int64_t>(list.size());
  return {.labels = at::tensor(list, at::kLong),
          .inputs = teacher_forcing_of(c).narrow(0, 0, count),
          .tokens = c.tensor("tok.ids").narrow(0, 0, count)};
}

bool has_lesson(const ParityCase& c) {
  return c.json.contains("labels") && c.json.at("weights").contains("var") && c.has("tok.ids");
}

// (B, L, V), (B, L) -> (B, L)
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& tokens, double smoothing) {
  return at::cross_entropy_loss(logits.flatten(0, 1), tokens.flatten(), {}, at::Reduction::None, -100, smoothing)
      .view(tokens.sizes());
}

double squared(double x) { return x * x; }

at::Tensor gradient_norm(const Transformer& transformer) {
  double sum = 0;
  for (const auto& [name, p] : named_parameters(*transformer)) sum += squared(p.grad().norm().item<double>());
  return at::full({1}, std::sqrt(sum));
}

TEST(ParityTransformer, LogitsLossAndAccuracyAreTheReferences) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    if (!has_lesson(c)) continue;
    const at::NoGradGuard no_grad;
    auto transformer = testing::transformer_of(c, testing::transformer_options_of(c));
    const auto lesson = lesson_of(c, c.json.at("labels"));
    const auto logits = transformer->forward(lesson.labels, lesson.inputs);  // (B, L, V)
    const auto& scales = transformer->scales();

    compared.check(c, "var.logits", logits);
    compared.check(c, "var.logits_l2_per_position", logits.norm(2, {-1}));
    if (c.has("var.logits_first_last")) {
      const int64_t codes = c.tensor("var.logits_first_last").size(-1);
      const auto ends = at::stack({logits.select(1, 0), logits.select(1, scales.length() - 1)}, 1);
      compared.check(c, "var.logits_first_last", ends.narrow(-1, 0, codes));
    }
    const auto loss = cross_entropy(logits, lesson.tokens, 0);
    const auto hits = logits.argmax(-1).eq(lesson.tokens).to(at::kFloat);
    std::vector<at::Tensor> loss_per_scale, hits_per_scale;
    for (int64_t k = 0; k < scales.count(); ++k) {
      loss_per_scale.push_back(loss.narrow(1, scales.begin(k), scales.area(k)).mean());
      hits_per_scale.push_back(hits.narrow(1, scales.begin(k), scales.area(k)).mean());
    }
    compared.check(c, "var.ce_per_token", loss);
    compared.check(c, "var.ce_per_scale", at::stack(loss_per_scale));
    compared.check(c, "var.acc_per_scale", at::stack(hits_per_scale));
    compared.check(c, "var.acc", hits.mean().view({1}));
    compared.check(c, "var.ce_mean.ls0", loss.mean().view({1}));
    compared.check(c, "var.ce_mean.ls0.1", cross_entropy(logits, lesson.tokens, 0.1).mean().view({1}));
    compared.end_case(c);
  }
}

TEST(ParityTransformer, StepByStepLogitsAreTheReferencesTeacherForcedOnes) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    if (!has_lesson(c) || !c.has("var.logits")) continue;
    auto transformer = testing::transformer_of(c, testing::transformer_options_of(c));
    const auto lesson = lesson_of(c, c.json.at("labels"));
    const auto& scales = transformer->scales();
    auto cache = transformer->begin_sampling(lesson.labels);
    std::vector<at::Tensor> logits;
    for (int64_t k = 0; k < scales.count(); ++k) {
      const auto inputs =
          k == 0 ? at::Tensor() : lesson.inputs.narrow(1, scales.begin(k) - scales.area(0), scales.area(k));
      logits.push_back(transformer->step(k, inputs, cache));
    }
    compared.check(c, "var.logits", at::cat(logits, 1));
    compared.end_case(c);
  }
}

TEST(ParityTransformerTraining, LossesAndGradientsAreTheReferences) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    if (!has_lesson(c)) continue;
    for (const auto& [tag, smoothing] : {std::pair{"ls0", 0.0}, std::pair{"ls0.1", 0.1}}) {
      const std::string of = tag, gradients = "var.grad." + of;
      if (!c.has("var.train.loss." + of) && !c.has(gradients + ".l2")) continue;
      auto transformer = testing::transformer_of(c, testing::transformer_options_of(c));
      transformer->train();
      const auto lesson = lesson_of(c, c.json.at("labels"));
      const auto logits = transformer->forward(lesson.labels, lesson.inputs);
      const auto length = static_cast<double>(transformer->scales().length());
      const auto loss = (cross_entropy(logits, lesson.tokens, smoothing) / length).sum(-1).mean();
      loss.backward();
      compared.check(c, "var.train.loss." + of, loss.detach().view({1}));
      compared.check(c, "var.grad_norm." + of, gradient_norm(transformer));

      std::vector<at::Tensor> norms, firsts;
      std::vector<std::string> names;
      for (const auto& [name, p] : named_parameters(*transformer)) {
        names.push_back(name);
        norms.push_back(p.grad().norm());
        const auto flat = p.grad().flatten();
        const auto first = at::zeros({64});
        const int64_t count = std::min<int64_t>(64, flat.numel());
        first.narrow(0, 0, count).copy_(flat.narrow(0, 0, count));
        firsts.push_back(first);
        compared.check(c, gradients + ".full." + name, p.grad());
      }
      if (c.json.contains("gradient_order")) {
        EXPECT_EQ(names, c.json.at("gradient_order").at("var").get<std::vector<std::string>>()) << c.name;
      }
      compared.check(c, gradients + ".l2", at::stack(norms));
      compared.check(c, gradients + ".first64", at::stack(firsts));
    }
    compared.end_case(c);
  }
}

TEST(ParityTransformerTraining, LabelDropAndStochasticDepthDrawTheReferencesNumbers) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    if (!has_lesson(c) || !c.json.contains("stochastic")) continue;
    const at::NoGradGuard no_grad;
    const auto& setting = c.json.at("stochastic");
    auto options = testing::transformer_options_of(c);
    options.drop_path = setting.at("drop_path_rate");
    auto transformer = testing::transformer_of(c, options);
    const auto lesson = lesson_of(c, setting.at("labels"));
    for (const bool training : {true, false}) {
      transformer->train(training);
      auto generator = make_generator(setting.at("seed").get<uint64_t>());
      const auto labels =
          drop_labels(lesson.labels, transformer->label_free_class(), setting.at("cond_drop_rate"), generator);
      const auto logits = transformer->forward(labels, lesson.inputs, generator);
      compared.check(c, training ? "stoch.train.ce_per_token" : "stoch.eval.ce_per_token",
                     cross_entropy(logits, lesson.tokens, 0));
      if (setting.contains("dropped")) {
        const auto expected = setting.at("dropped").get<std::vector<bool>>();
        for (size_t i = 0; i < expected.size(); ++i) {
          const bool dropped = labels[static_cast<int64_t>(i)].item<int64_t>() == transformer->label_free_class();
          EXPECT_EQ(dropped, expected[i]) << c.name << ": picture " << i;
        }
      }
    }
    compared.end_case(c);
  }
}

TEST(ParityTransformerTraining, ProgressiveStagesHaveTheReferencesLossAndGradientNorm) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    if (!has_lesson(c) || !c.json.contains("progressive") || !c.has("prog.loss")) continue;
    auto transformer = testing::transformer_of(c, testing::transformer_options_of(c));
    transformer->train();
    const auto lesson = lesson_of(c, c.json.at("labels"));
    const auto& scales = transformer->scales();
    std::vector<at::Tensor> losses, norms;
    for (const auto& row : c.json.at("progressive")) {
      const int64_t newest = row.at("prog_si");
      const int64_t end = scales.end(newest);
      // Weights stay 1/L of the whole length; the newest scale fades in, the last stage is ordinary training.
      const auto weights = at::full({end}, 1.0 / static_cast<double>(scales.length()));
      if (!scales.is_last(newest)) {
        weights.narrow(0, scales.begin(newest), scales.area(newest)).mul_(row.at("prog_wp").get<double>());
      }
      transformer->zero_grad();
      const auto logits = transformer->forward(lesson.labels, lesson.inputs.narrow(1, 0, end - scales.area(0)));
      const auto loss = (cross_entropy(logits, lesson.tokens.narrow(1, 0, end), 0) * weights).sum(-1).mean();
      loss.backward();
      losses.push_back(loss.detach());
      norms.push_back(gradient_norm(transformer));
    }
    compared.check(c, "prog.loss", at::stack(losses));
    compared.check(c, "prog.grad_norm", at::cat(norms));
    compared.end_case(c);
  }
}

TEST(ParityTransformerNames, PublishedModelsHaveTheReferencesNamesShapesAndCounts) {
  Compared compared;
  const auto models = fixture_table("names.json");
  for (const auto& [key, model] : models.items()) {
    if (!key.starts_with("var_")) continue;
    const auto depth = key.substr(4);
    const auto options = transformer_preset(depth == "d36" ? "d36-s" : depth);
    EXPECT_EQ(options.sides, model.at("sides").get<std::vector<int64_t>>()) << key;
    EXPECT_EQ(options.width, model.at("width").get<int64_t>()) << key;
    EXPECT_EQ(options.heads, model.at("heads").get<int64_t>()) << key;
    EXPECT_EQ(options.shared_aln, model.at("shared_aln").get<bool>()) << key;
    EXPECT_DOUBLE_EQ(options.drop_path, model.at("drop_path").get<double>()) << key;

    const Transformer transformer(options, at::kMeta);  // shapes without memory
    std::vector<std::pair<std::string, std::vector<int64_t>>> ours, expected;
    for (const auto& [name, tensor] : reference_state_dict(transformer)) ours.emplace_back(name, tensor.sizes().vec());
    for (const auto& entry : model.at("state_dict")) {
      expected.emplace_back(entry.at(0), entry.at(1).get<std::vector<int64_t>>());
    }
    EXPECT_EQ(ours, expected) << key;
    EXPECT_EQ(ours.size(), state_dict(*transformer).size() + 1) << "only the mask is not a part of the module";
    int64_t count = 0;
    for (const auto& [name, p] : named_parameters(*transformer)) count += p.numel();
    EXPECT_EQ(count, model.at("parameters").get<int64_t>()) << key;
    EXPECT_EQ(count - (options.classes + 1) * options.width, model.at("without_class_embedding").get<int64_t>()) << key;
    compared.count(static_cast<int64_t>(expected.size()));
    compared.end_case({key, {}, {}, {}});
  }
}

TEST(ParityTransformerNames, ExportIsTheReferencesStateDictOfEveryCase) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    if (!c.json.at("weights").contains("var")) continue;
    const auto transformer = testing::transformer_of(c, testing::transformer_options_of(c));
    const auto exported = reference_state_dict(transformer);
    std::vector<std::string> names;
    for (const auto& entry : exported) names.push_back(entry.first);
    EXPECT_EQ(names, c.weight_names("var")) << c.name;
    const auto levels = find_tensor(exported, "lvl_1L").to(at::kFloat);  // (1, L)
    const auto hidden = levels.t().lt(levels);
    const auto mask = at::zeros(hidden.sizes()).masked_fill(hidden, -std::numeric_limits<double>::infinity());
    EXPECT_TRUE(at::equal(find_tensor(exported, "attn_bias_for_masking")[0][0], mask)) << c.name;
    compared.count(static_cast<int64_t>(exported.size()));
    compared.end_case(c);
  }
}

// "blocks.0.ada_lin.1.weight[2C:]" or "blocks.0.ada_gss[:, :, :2]": a parameter, or the gates' part of it, or the rest.
at::Tensor part_of(const Transformer& transformer, const std::string& row) {
  const auto bracket = row.find('[');
  const auto tensor = find_tensor(named_parameters(*transformer), row.substr(0, bracket));
  if (bracket == std::string::npos || !tensor.defined()) return tensor;
  const bool gates = row.ends_with(":2C]") || row.ends_with(":2]");
  const int64_t dimension = tensor.dim() == 4 ? 2 : 0;
  const int64_t split = tensor.size(dimension) / 3;  // two of six parts
  return gates ? tensor.narrow(dimension, 0, split) : tensor.narrow(dimension, split, tensor.size(dimension) - split);
}

TEST(ParityInitialisation, MeanAndDeviationOfEveryParameterAreTheReferences) {
  Compared compared;
  uint64_t seed = 0;
  const auto tables = fixture_table("init.json");
  for (const auto& run : tables.at("runs")) {
    const auto& arguments = run.at("arguments");
    int64_t code_width = 0;  // not among the run's settings
    for (const auto& row : run.at("rows")) {
      if (row.at("name") == "word_embed.weight") {
        code_width = row.at("numel").get<int64_t>() / run.at("width").get<int64_t>();
      }
    }
    Transformer transformer(TransformerOptions{.codes = run.at("V"),
                                               .code_width = code_width,
                                               .sides = run.at("sides"),
                                               .classes = run.at("num_classes"),
                                               .depth = run.at("depth"),
                                               .width = run.at("width"),
                                               .heads = run.at("heads"),
                                               .shared_aln = run.at("shared_aln"),
                                               .init_std = arguments.at("init_std"),
                                               .init_adaln = arguments.at("init_adaln"),
                                               .init_adaln_gamma = arguments.at("init_adaln_gamma"),
                                               .init_head = arguments.at("init_head")});
    transformer->initialise(make_generator(seed++));
    std::set<std::string> seen;
    for (const auto& row : run.at("rows")) {
      const std::string name = row.at("name");
      const auto values = part_of(transformer, name);
      ASSERT_TRUE(values.defined()) << name;
      seen.insert(name.substr(0, name.find('[')));
      const auto n = static_cast<double>(values.numel());
      ASSERT_EQ(values.numel(), row.at("numel").get<int64_t>()) << name;
      const auto wide = values.detach().to(at::kDouble);
      const double mean = row.at("mean"), std = row.at("std");
      if (std == 0) {
        EXPECT_TRUE(testing::all_close(wide, at::full_like(wide, mean), {.absolute = 1e-6})) << name;
      } else {
        EXPECT_NEAR(wide.mean().item<double>(), mean, 5 * std / std::sqrt(n)) << name;
        EXPECT_NEAR(wide.std().item<double>() / std, 1, 5 / std::sqrt(2 * n)) << name;
      }
      compared.count();
    }
    EXPECT_EQ(seen.size(), named_parameters(*transformer).size());
    compared.end_case({"init.json, depth " + std::to_string(run.at("depth").get<int64_t>()), {}, {}, {}});
  }
}

}  // namespace
}  // namespace nextscale
