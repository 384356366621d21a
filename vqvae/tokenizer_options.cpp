#include <algorithm>
#include <set>

#include "nextscale/base/error.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {
namespace {

void check_width(int64_t width, int64_t groups) {
  if (width % groups == 0) return;
  throw usage({"--norm-groups", "does not divide a level's width", "a divisor of " + std::to_string(width),
               std::to_string(groups)});
}

// From the feature map down, each side about three quarters of the one above: 8, 6, 4, 3, 2, 1.
std::vector<int64_t> growing_sides(int64_t last) {
  std::vector<int64_t> sides = {last};
  while (sides.back() > 1) sides.push_back((3 * sides.back() + 1) / 4);
  std::reverse(sides.begin(), sides.end());
  return sides;
}

void require_side_of_preset(const std::string& preset, int64_t side, int64_t least, int64_t most, int64_t multiple) {
  if (side >= least && side <= most && side % multiple == 0) return;
  throw usage({"--preset " + preset, "cannot take this picture side",
               std::to_string(least) + " to " + std::to_string(most) + ", a multiple of " + std::to_string(multiple),
               std::to_string(side)});
}

TokenizerOptions paper(const std::string& preset, int64_t side) {
  constexpr int64_t kDownsample = 16;
  require_side_of_preset(preset, side, 64, 1024, kDownsample);
  TokenizerOptions options;  // the defaults are ch160v4096z32 at 256 px
  if (side == 512) {
    options.quantizer.sides = {1, 2, 3, 4, 6, 9, 13, 18, 24, 32};
  } else if (side != 256) {
    options.quantizer.sides = growing_sides(side / kDownsample);
  }
  if (preset == "vqgan") options.ch = 128;
  return options;
}

TokenizerOptions fast(int64_t side) {
  require_side_of_preset("fast", side, 16, 64, 4);
  TokenizerOptions options;
  options.quantizer.codes = 256;
  options.quantizer.code_width = 8;
  options.quantizer.sides = growing_sides(side / 4);
  options.ch = 32;
  options.ch_mult = {1, 2};
  options.res_blocks = 1;
  options.decoder_res_blocks = 1;
  options.attention = false;
  options.norm_groups = 8;
  options.space_to_depth = 2;
  options.initial_values = "uniform";
  return options;
}

}  // namespace

int64_t TokenizerOptions::downsample() const { return space_to_depth << (ch_mult.size() - 1); }

int64_t TokenizerOptions::pictures_at_once(const at::Device& device) const {
  // The widest activations are those of the first level, about eight of them alive at once.
  const int64_t side = picture_side() / space_to_depth;
  const int64_t bytes = 8 * 4 * ch * ch_mult.front() * side * side;
  const int64_t most = device.is_cpu() ? 100'000'000 : 4'000'000'000;
  return std::clamp<int64_t>(most / bytes, 1, 256);
}

std::vector<BoundOption> bind_tokenizer_options(TokenizerOptions& options) {
  auto bound = bind_options(options.quantizer);
  const auto own = bind_options(options);
  bound.insert(bound.end(), own.begin(), own.end());
  return bound;
}

void check_together(const TokenizerOptions& options) {
  constexpr size_t kMostLevels = 16;
  if (options.ch_mult.empty() || options.ch_mult.size() > kMostLevels) {
    throw usage({"--ch-mult", "wrong number of levels", "1 to 16", std::to_string(options.ch_mult.size())});
  }
  const Scales scales(options.quantizer.sides);  // throws where they are no pyramid
  check_width(options.ch, options.norm_groups);
  for (const int64_t mult : options.ch_mult) check_width(options.ch * mult, options.norm_groups);
}

TokenizerOptions tokenizer_preset(const std::string& name, int64_t picture_side, int64_t channels) {
  if (name != "paper" && name != "vqgan" && name != "fast") {
    throw usage({"--preset", "unknown", "paper, vqgan or fast", name});
  }
  auto options = name == "fast" ? fast(picture_side) : paper(name, picture_side);
  options.channels = channels;
  return options;
}

}  // namespace nextscale
