#include "nextscale/train/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale {
namespace {

using testing::all_close;

NamedTensors parameters() {
  auto generator = make_generator(3);
  NamedTensors out;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    out.emplace_back(name, at::randn(shape, generator).set_requires_grad(true));
  };
  add("layer.weight", {4, 5});
  add("layer.bias", {4});
  add("head.weight", {3, 4});
  add("unused.weight", {2, 2});
  return out;
}

void give_gradients(const NamedTensors& named, int64_t step) {
  auto generator = make_generator(static_cast<uint64_t>(100 + step));
  for (const auto& [name, parameter] : named) {
    if (name == "unused.weight") continue;
    auto tensor = parameter;
    tensor.mutable_grad() = at::randn(parameter.sizes(), generator);
  }
}

NamedTensors copies(const NamedTensors& named) {
  NamedTensors out;
  for (const auto& [name, tensor] : named) out.emplace_back(name, tensor.detach().clone());
  return out;
}

TEST(AdamW, StepsAsTheWrittenOutFormulaInFloat64) {
  const AdamWOptions options{.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-3};
  const auto named = parameters();
  const auto start = copies(named);
  AdamW optimizer(named, options, transformer_parameter_decays);
  std::vector<at::Tensor> x, m, v;
  for (const auto& [name, tensor] : start) {
    x.push_back(tensor.to(at::kDouble));
    m.push_back(at::zeros_like(x.back()));
    v.push_back(at::zeros_like(x.back()));
  }
  for (int64_t t = 1; t <= 3; ++t) {
    const double lr = 0.1 / static_cast<double>(t);
    give_gradients(named, t);
    for (size_t i = 0; i < named.size(); ++i) {
      const auto& gradient = named[i].second.grad();
      if (!gradient.defined()) continue;
      const auto g = gradient.to(at::kDouble);
      x[i] = x[i] * (1 - lr * (named[i].second.dim() > 1 ? 0.3 : 0.0));
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
      const auto m_hat = m[i] / (1 - std::pow(options.beta1, t));
      const auto v_hat = v[i] / (1 - std::pow(options.beta2, t));
      x[i] = x[i] - lr * m_hat / (v_hat.sqrt() + options.eps);
    }
    optimizer.step(lr, 0.3);
  }
  for (size_t i = 0; i < named.size(); ++i) {
    EXPECT_TRUE(all_close(named[i].second, x[i], {.relative = 1e-5, .absolute = 1e-6})) << named[i].first;
  }
  EXPECT_TRUE(all_close(find_tensor(optimizer.state(), "head.weight.exp_avg"), m[2], {.absolute = 1e-6}));
  EXPECT_TRUE(all_close(find_tensor(optimizer.state(), "head.weight.exp_avg_sq"), v[2], {.absolute = 1e-6}));
  EXPECT_EQ(find_tensor(optimizer.state(), "head.weight.step").item<double>(), 3);
}

TEST(AdamW, AParameterWithoutAGradientIsLeftAlone) {
  const auto named = parameters();
  const auto before = named[3].second.detach().clone();
  AdamW optimizer(named, {}, transformer_parameter_decays);
  give_gradients(named, 1);
  optimizer.step(0.1, 0.5);
  EXPECT_TRUE(all_close(named[3].second, before));
  EXPECT_EQ(find_tensor(optimizer.state(), "unused.weight.step").item<double>(), 0);
  optimizer.zero_grad();
  EXPECT_FALSE(named[0].second.grad().defined());
}

TEST(AdamW, ClipsTheNormOfAllGradientsTogether) {
  const auto named = parameters();
  const AdamWOptions options;
  AdamW optimizer(named, options, transformer_parameter_decays);
  give_gradients(named, 1);
  double squares = 0;
  std::vector<at::Tensor> before;
  for (size_t i = 0; i < 3; ++i) {
    before.push_back(named[i].second.grad().clone());
    squares += before[i].to(at::kDouble).square().sum().item<double>();
  }
  const double norm = std::sqrt(squares);
  ASSERT_GT(norm, 2);
  // What a step used is in the mean that starts at zero: (1 - beta1) * gradient.
  const auto step_uses = [&](double factor) {
    const auto& state = optimizer.state();
    const auto earlier = copies(state);
    optimizer.step(0.01, 0.1);
    for (size_t i = 0; i < 3; ++i) {
      const auto name = named[i].first + ".exp_avg";
      const auto used = (find_tensor(state, name) - find_tensor(earlier, name) * options.beta1) / (1 - options.beta1);
      EXPECT_TRUE(all_close(used, before[i] * factor, {.relative = 1e-4, .absolute = 1e-5})) << named[i].first;
      named[i].second.grad().copy_(before[i]);
    }
  };
  EXPECT_NEAR(optimizer.clip_gradients(1.5).item<double>(), norm, 1e-5);
  EXPECT_NEAR(optimizer.clip_gradients(0).item<double>(), norm, 1e-5);
  step_uses(1);  // only measured
  EXPECT_NEAR(optimizer.clip_gradients(norm + 1).item<double>(), norm, 1e-5);
  step_uses(1);  // a limit that does not bite changes nothing
  EXPECT_NEAR(optimizer.clip_gradients(1.5).item<double>(), norm, 1e-5);
  step_uses(1.5 / norm);
  step_uses(1);  // a clip is for one step
}

TEST(AdamW, WithoutAnyGradientTheNormIsZero) {
  AdamW optimizer(parameters(), {}, transformer_parameter_decays);
  EXPECT_EQ(optimizer.clip_gradients(1.0).item<double>(), 0);
  optimizer.step(0.1, 0.1);
}

/// Two steps, then one more by an optimizer that is given the state or (control) starts afresh.
NamedTensors three_steps(bool with_state) {
  const auto named = parameters();
  NamedTensors state;
  {
    AdamW first(named, {}, transformer_parameter_decays);
    for (int64_t t = 0; t < 2; ++t) {
      give_gradients(named, t);
      first.step(0.01, 0.1);
    }
    state = copies(first.state());
  }
  AdamW second(named, {}, transformer_parameter_decays);
  if (with_state) second.load_state(state, "optimizer.safetensors");
  give_gradients(named, 2);
  second.step(0.01, 0.1);
  return copies(named);
}

TEST(AdamW, GoesOnFromItsStateBitForBit) {
  const auto named = parameters();
  AdamW whole(named, {}, transformer_parameter_decays);
  for (int64_t t = 0; t < 3; ++t) {
    give_gradients(named, t);
    whole.step(0.01, 0.1);
  }
  const auto restored = three_steps(true);
  for (size_t i = 0; i < named.size(); ++i) EXPECT_TRUE(all_close(restored[i].second, named[i].second));
  EXPECT_FALSE(all_close(three_steps(false)[0].second, named[0].second)) << "the control must differ";
}

TEST(AdamW, AStateThatDoesNotFitNamesFileAndEntryAndChangesNothing) {
  AdamW optimizer(parameters(), {}, transformer_parameter_decays);
  auto good = copies(optimizer.state());
  for (auto& [name, tensor] : good) tensor.fill_(7);
  auto missing = good;
  missing.pop_back();
  auto extra = good;
  extra.emplace_back("other.step", at::zeros({}));
  auto other_shape = good;
  other_shape.back().second = at::zeros({2});
  const std::vector<std::pair<NamedTensors, std::string>> bad = {
      {missing, good.back().first}, {extra, "other.step"}, {other_shape, good.back().first}};
  for (const auto& [state, name] : bad) {
    try {
      optimizer.load_state(state, "run/optimizer.safetensors");
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("run/optimizer.safetensors: " + name), std::string::npos)
          << error.what();
    }
    EXPECT_EQ(optimizer.state().front().second.abs().sum().item<double>(), 0);
  }
  optimizer.load_state(good, "good");
  EXPECT_TRUE((optimizer.state().front().second == 7).all().item<bool>());
}

TEST(ParameterGroups, TheTokenizersCodebookDoesNotDecay) {
  EXPECT_TRUE(tokenizer_parameter_decays("encoder.conv_in.weight", at::zeros({2, 2, 3, 3})));
  EXPECT_FALSE(tokenizer_parameter_decays("encoder.conv_in.bias", at::zeros({2})));
  EXPECT_FALSE(tokenizer_parameter_decays("encoder.norm_out.weight", at::zeros({2})));
  EXPECT_FALSE(tokenizer_parameter_decays("quantize.embedding.weight", at::zeros({4, 2})));
  EXPECT_TRUE(tokenizer_parameter_decays("quantize.quant_resi.qresi_ls.0.weight", at::zeros({2, 2, 3, 3})));
}

}  // namespace
}  // namespace nextscale
