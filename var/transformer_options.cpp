#include <algorithm>
#include <array>
#include <cmath>

#include "nextscale/base/error.h"
#include "nextscale/var/initialisation.h"
#include "nextscale/var/transformer.h"

namespace nextscale {
namespace {

const std::vector<int64_t> kSides256 = {1, 2, 3, 4, 5, 6, 8, 10, 13, 16};
const std::vector<int64_t> kSides512 = {1, 2, 3, 4, 6, 9, 13, 18, 24, 32};

// The published models are one family: width 64 d, d heads, stochastic depth 0.1 d / 24 (reference build_vae_var).
TransformerOptions published(int64_t depth, const std::vector<int64_t>& sides, bool shared_aln) {
  return {.sides = sides,
          .depth = depth,
          .width = 64 * depth,
          .heads = depth,
          .shared_aln = shared_aln,
          .drop_path = 0.1 * static_cast<double>(depth) / 24};
}

}  // namespace

std::vector<BoundOption> bind_transformer_options(TransformerOptions& options) { return bind_options(options); }

std::vector<BoundOption> architecture_options(TransformerOptions& options) {
  auto bound = bind_options(options);
  constexpr std::array given = {"codes", "code_width", "sides", "classes"};
  std::erase_if(bound,
                [&](const BoundOption& o) { return std::find(given.begin(), given.end(), o.name) != given.end(); });
  return bound;
}

void check_together(const TransformerOptions& options) {
  if (options.width % options.heads != 0) {
    throw usage({.where = "--heads",
                 .what = "does not divide the width",
                 .expected = "a divisor of " + std::to_string(options.width),
                 .got = std::to_string(options.heads)});
  }
  if (feed_forward_width(options) < 1) {
    throw usage(
        {.where = "--mlp-ratio", .what = "leaves the feed-forward without a hidden layer", .expected = {}, .got = {}});
  }
  const Scales scales(options.sides);  // throws where sides do not grow
}

TransformerOptions transformer_preset(const std::string& name) {
  if (name == "d16") return published(16, kSides256, false);   // FID 3.30 at cfg 1.5, ImageNet 256 px
  if (name == "d20") return published(20, kSides256, false);   // FID 2.57
  if (name == "d24") return published(24, kSides256, false);   // FID 2.09
  if (name == "d30") return published(30, kSides256, false);   // FID 1.92
  if (name == "d36-s") return published(36, kSides512, true);  // FID 2.63, ImageNet 512 px
  if (name == "fast") {
    // Found by trial for pictures up to 64 px on two processor cores: wider and shallower than the published family, no
    // l2 norm (a tenth of the step), the usual attention scale, gates that open sooner.
    return {.codes = 256,
            .code_width = 8,
            .sides = {1, 2, 3, 4, 5, 7},
            .classes = 10,
            .depth = 4,
            .width = 192,
            .heads = 3,
            .attn_l2_norm = false,
            .attention_scale = 1.0,
            .init_position_std = 0.02,
            .init_adaln_gamma = 1e-3};
  }
  throw usage({.where = "--preset",
               .what = "unknown",
               .expected = "d16, d20, d24, d30, d36-s or fast",
               .got = "'" + name + "'"});
}

}  // namespace nextscale
