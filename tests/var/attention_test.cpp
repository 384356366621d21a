#include "nextscale/var/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nextscale/base/random.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale {
namespace {

using testing::all_close;

constexpr AttentionPath kPaths[] = {AttentionPath::automatic, AttentionPath::prefix, AttentionPath::grouped,
                                    AttentionPath::written_out, AttentionPath::accumulated};

struct Attended {
  at::Tensor output, q_gradient, k_gradient, v_gradient;
};

// Output and gradients of a weighted sum of it, for drawn q, k, v of (2, heads, L, head_width).
Attended attend(const Scales& scales, AttentionPath path, at::ScalarType dtype, int64_t heads, int64_t head_width,
                bool strided = false) {
  auto generator = make_generator(7);
  const auto options = at::TensorOptions().dtype(dtype);
  const int64_t length = scales.length();
  const auto draw = [&] {
    const auto x = at::randn({2, length, heads, head_width}, generator, at::kFloat).to(dtype).transpose(1, 2);
    return (strided ? x : x.contiguous()).detach().requires_grad_();
  };
  const auto q = draw(), k = draw(), v = draw();
  const auto plan = plan_attention(scales, scales.count(), path, options);
  const auto output = block_causal_attention(q, k, v, plan, 0.3);  // (B, L, C)
  const auto weights = at::randn(output.sizes(), generator, at::kFloat).to(dtype);
  (output * weights).sum().backward();
  return {output.detach(), q.grad(), k.grad(), v.grad()};
}

void expect_equal(const Attended& a, const Attended& b, double tolerance, const std::string& what) {
  EXPECT_TRUE(all_close(a.output, b.output, {.relative = 1e-5, .absolute = tolerance})) << what << ": output";
  EXPECT_TRUE(all_close(a.q_gradient, b.q_gradient, {.relative = 1e-5, .absolute = tolerance}))
      << what << ": gradient of q";
  EXPECT_TRUE(all_close(a.k_gradient, b.k_gradient, {.relative = 1e-5, .absolute = tolerance}))
      << what << ": gradient of k";
  EXPECT_TRUE(all_close(a.v_gradient, b.v_gradient, {.relative = 1e-5, .absolute = tolerance}))
      << what << ": gradient of v";
}

TEST(BlockCausalAttention, EveryPathIsTheDenseOnesTwinInFloat32) {
  const std::vector<std::vector<int64_t>> pyramids = {
      {1}, {3}, {1, 2}, {1, 5}, {1, 2, 3, 4, 5, 7}, {2, 3, 5, 11}, {1, 2, 3, 4, 5, 6, 8, 10, 13, 16}};
  for (const auto& sides : pyramids) {
    const Scales scales(sides);
    for (const int64_t head_width : {5, 64}) {
      const auto dense = attend(scales, AttentionPath::dense, at::kFloat, 3, head_width);
      for (const auto path : kPaths) {
        const auto what = scales.text() + ", path " + std::to_string(static_cast<int>(path));
        expect_equal(attend(scales, path, at::kFloat, 3, head_width), dense, 3e-5, what);
        expect_equal(attend(scales, path, at::kFloat, 3, head_width, true), dense, 3e-5, what + ", strided");
      }
    }
  }
}

TEST(BlockCausalAttention, EveryPathIsTheDenseOnesTwinInBfloat16) {
  for (const auto& sides : {std::vector<int64_t>{1, 2, 3, 4, 5, 7}, std::vector<int64_t>{1, 3, 9, 11}}) {
    const Scales scales(sides);
    const auto exact = attend(scales, AttentionPath::dense, at::kFloat, 2, 33);
    const auto dense = attend(scales, AttentionPath::dense, at::kBFloat16, 2, 33);
    for (const auto path : kPaths) {
      const auto half = attend(scales, path, at::kBFloat16, 2, 33);
      // Two roundings of the same numbers: each as near to float32 as bf16 allows.
      expect_equal(half, dense, 0.15, "against dense bf16");
      EXPECT_LT((half.output - exact.output).abs().mean().item<double>(), 0.01);
    }
  }
}

RC_GTEST_PROP(BlockCausalAttention, NoPositionSeesALaterScale, ()) {
  std::vector<int64_t> sides = {*rc::gen::inRange<int64_t>(1, 3)};
  for (int64_t more = *rc::gen::inRange<int64_t>(1, 5); more > 0; --more) {
    sides.push_back(sides.back() + *rc::gen::inRange<int64_t>(0, 4));
  }
  const Scales scales(sides);
  const auto path = *rc::gen::elementOf(std::vector<AttentionPath>(std::begin(kPaths), std::end(kPaths)));
  const auto k_changed = *rc::gen::inRange<int64_t>(0, scales.count());
  auto generator = make_generator(1);
  const auto q = at::randn({1, 2, scales.length(), 4}, generator, at::kFloat);
  const auto plan = plan_attention(scales, scales.count(), path, q.options());
  const auto before = block_causal_attention(q, q, q, plan, 1);
  auto changed = q.clone();
  changed.narrow(2, scales.begin(k_changed), scales.area(k_changed)).add_(1);
  const auto after = block_causal_attention(q, changed, changed, plan, 1);
  const int64_t begin = scales.begin(k_changed), rest = scales.length() - begin;
  RC_ASSERT(at::allclose(before.narrow(1, 0, begin), after.narrow(1, 0, begin), 0, 1e-6));
  const auto moved = (after - before).narrow(1, begin, rest).abs().amax(-1);
  RC_ASSERT(moved.min().item<double>() > 0);
}

TEST(BlockCausalAttention, PlansTileTheSequenceAndKeepTheGroupedMaskSmall) {
  const Scales scales({1, 2, 3, 4, 5, 6, 8, 10, 13, 16});
  for (const auto path : {AttentionPath::dense, AttentionPath::prefix, AttentionPath::grouped}) {
    for (int64_t count = 1; count <= scales.count(); ++count) {
      const auto plan = plan_attention(scales, count, path, at::kFloat);
      int64_t at_position = 0;
      for (const auto& piece : plan.pieces) {
        EXPECT_EQ(piece.begin, at_position);
        at_position = piece.end;
      }
      EXPECT_EQ(at_position, scales.end(count - 1));
    }
  }
  const auto grouped = plan_attention(scales, 10, AttentionPath::grouped, at::kFloat);
  ASSERT_EQ(grouped.pieces.size(), 4u);
  EXPECT_EQ(grouped.pieces.front().mask.sizes(), at::IntArrayRef({155, 155}));
  for (size_t i = 1; i < grouped.pieces.size(); ++i) EXPECT_FALSE(grouped.pieces[i].mask.defined());
}

TEST(BlockCausalAttention, DropoutDrawsFromTheGivenGeneratorAndKeepsTheMean) {
  const Scales scales({1, 2, 3});
  auto generator = make_generator(3);
  const auto q = at::randn({1, 1, 14, 8}, generator, at::kFloat).expand({2000, 1, 14, 8});
  const auto plan = plan_attention(scales, 3, AttentionPath::prefix, q.options());
  const auto draw = [&](uint64_t seed) { return block_causal_attention(q, q, q, plan, 1, 0.5, make_generator(seed)); };
  const auto drawn = draw(1);
  EXPECT_TRUE(at::equal(drawn, draw(1)));
  EXPECT_FALSE(at::equal(drawn, draw(2)));
  EXPECT_FALSE(at::equal(drawn[0], drawn[1]));
  EXPECT_TRUE(all_close(drawn.mean(0), block_causal_attention(q, q, q, plan, 1)[0], {.absolute = 0.2}));
}

}  // namespace
}  // namespace nextscale
