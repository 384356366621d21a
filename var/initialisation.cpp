#include "nextscale/var/initialisation.h"

#include <cmath>
#include <string>
#include <string_view>

#include <ATen/ATen.h>

#include "nextscale/base/state_dict.h"
#include "nextscale/var/transformer.h"

namespace nextscale {
namespace {

// Drawn on the CPU and in float32 wherever the module is, so that a seed means the same weights on every device.
void draw_normal(const at::Tensor& parameter, double std, at::Generator generator) {
  parameter.copy_(at::empty(parameter.sizes(), at::kFloat).normal_(0, std, generator));
}

}  // namespace

int64_t feed_forward_width(const TransformerOptions& options) {
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(options.width) * options.mlp_ratio));
}

void initialise_transformer(torch::nn::Module& module, const TransformerOptions& options, at::Generator generator) {
  const at::NoGradGuard no_grad;
  const double automatic = std::sqrt(1.0 / (3.0 * static_cast<double>(options.width)));
  const double std = options.init_std < 0 ? automatic : options.init_std;
  const double position_std = options.init_position_std < 0 ? automatic : options.init_position_std;
  const double branch_end = 1 / std::sqrt(2.0 * static_cast<double>(options.depth));
  const int64_t gates = 2;  // gamma1 and gamma2 come first of AdaLN's six parts

  for (const auto& [name, parameter] : named_parameters(module)) {
    const std::string_view key = name;
    const bool in_block = key.starts_with("blocks.");
    if (key.ends_with("bias")) {
      parameter.zero_();
    } else if (key.ends_with("scale_mul_1H11")) {
      parameter.fill_(std::log(4.0));
    } else if (key.ends_with("ada_gss")) {  // (1, 1, 6, C)
      draw_normal(parameter, 1 / std::sqrt(static_cast<double>(options.width)), generator);
      parameter.narrow(2, 0, gates).mul_(options.init_adaln_gamma);
      parameter.narrow(2, gates, 6 - gates).mul_(options.init_adaln);
    } else if (key == "pos_start" || key == "pos_1LC") {
      draw_normal(parameter, position_std, generator);
    } else if (key == "lvl_embed.weight") {
      // The reference draws it like every embedding; a deviation chosen for the position tables holds for it too.
      draw_normal(parameter, options.init_position_std < 0 ? std : position_std, generator);
    } else {
      draw_normal(parameter, std, generator);
      if (in_block && key.ends_with("ada_lin.1.weight")) {  // (6 C, C)
        parameter.narrow(0, 0, gates * options.width).mul_(options.init_adaln_gamma);
        parameter.narrow(0, gates * options.width, (6 - gates) * options.width).mul_(options.init_adaln);
      } else if (in_block && (key.ends_with("attn.proj.weight") || key.ends_with("ffn.fc2.weight"))) {
        parameter.mul_(branch_end);
      } else if (key == "head_nm.ada_lin.1.weight") {
        parameter.mul_(options.init_adaln);
      } else if (key == "head.weight") {
        parameter.mul_(options.init_head);
      }
    }
  }
}

}  // namespace nextscale
