#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include "nextscale/base/state_dict.h"
#include "nextscale/networks/perceptual_trunk.h"

namespace nextscale {

/// How a position's features become a vector of length one, per channel c:
enum class UnitForm {
  training,    ///< x_c / (sqrt(sum x^2 + 1e-9) + 1e-10): its gradient is finite everywhere, 3e4 where all are zero
  evaluation,  ///< x_c / (sqrt(sum x^2) + 1e-10), as published; its gradient is NaN where all are zero
};
/// (B, C, h, w) -> the same, over the channels
torch::Tensor unit_length(const torch::Tensor& x, UnitForm form);

/// What the trunk is given for pictures x in [-1, 1]: (x - shift) / scale, per channel after the order is changed.
struct PerceptualRange {
  std::array<double, 3> shift, scale;
  bool is_bgr = false;
};

struct PerceptualDistanceOptions {
  std::string name;  ///< for messages and records
  PerceptualRange range;
  bool has_heads = true;  ///< else every channel weighs 1
  UnitForm unit = UnitForm::training;
};

/// Distance of two pictures as features see it (Zhang et al. 2018, arXiv 1801.03924): maps of a frozen network of unit
/// length per position, their squared difference weighed per channel by a linear head, summed over channels, averaged
/// over positions, summed over maps.
///
/// Pictures are (B, 3, h, w) RGB or (B, 1, h, w) grey (the same as equal R, G, B) in [-1, 1]. The trunk runs in what
/// autocast says, all behind it in float32 (float64 where trunk and pictures are). Never trained; gradients flow to
/// whichever pictures ask for them.
/// State-dict names: trunk.…, heads.lin0.model.1.weight …
class PerceptualDistanceImpl : public torch::nn::Module {
 public:
  PerceptualDistanceImpl(std::shared_ptr<PerceptualTrunk> trunk, const PerceptualDistanceOptions& options);

  /// @returns (B) distances
  /// @throws Error failure for pictures smaller than the trunk can take
  torch::Tensor forward(const torch::Tensor& x0, const torch::Tensor& x1);
  /// @returns K terms of (B), which sum to the distance
  std::vector<torch::Tensor> layer_distances(const torch::Tensor& x0, const torch::Tensor& x1);

  /// Maps of unit length, (B, C_k, h_k, w_k): of a picture that is compared more than once.
  std::vector<torch::Tensor> features(const torch::Tensor& x);
  /// forward for such features. @returns (B)
  torch::Tensor distance(const std::vector<torch::Tensor>& features0, const std::vector<torch::Tensor>& features1);
  /// The trunk's maps as they are.
  std::vector<torch::Tensor> taps(const torch::Tensor& x);

  /// The trunk's weights by their published names; those of a classifier (`classifier.…`) are not used.
  /// @throws Error failure naming `where` and the entry: missing, extra, another shape, values that are not finite
  void load_trunk(const NamedTensors& weights, const std::string& where);
  /// `lin<k>.model.1.weight` (1, C_k, 1, 1). @throws Error failure as load_trunk, and for negative weights
  void load_heads(const NamedTensors& weights, const std::string& where);

  const std::string& name() const { return options_.name; }
  int64_t smallest_side() const { return trunk_->smallest_side(); }
  void train(bool on = true) override;  ///< nothing here knows training: stays in evaluation mode

 private:
  torch::Tensor prepared(const torch::Tensor& x) const;
  /// (B) of one map
  torch::Tensor term(size_t k, const torch::Tensor& unit0, const torch::Tensor& unit1) const;

  PerceptualDistanceOptions options_;
  std::shared_ptr<PerceptualTrunk> trunk_;
  std::shared_ptr<torch::nn::Module> heads_;
  std::vector<torch::Tensor> head_weights_;  // (1, C_k, 1, 1), those of heads_; empty: unweighted
  torch::Tensor shift_, scale_;              // (3, 1, 1)
};
TORCH_MODULE(PerceptualDistance);

}  // namespace nextscale
