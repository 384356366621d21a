#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <tuple>

#include <torch/types.h>

#include "nextscale/base/options.h"
#include "nextscale/var/step_graphs.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

struct SampleOptions {
  double cfg = 1.5;
  int64_t top_k = 900;
  double top_p = 0.96;
  bool smooth = false;
  bool graphs = false;
  std::string draws = "cpu";
  c10::ScalarType dtype = c10::kFloat;  // of transformer and decoder; --dtype of RuntimeOptions, so not in the table

  static constexpr auto table() {
    using O = SampleOptions;
    return std::tuple{
        option("cfg", &O::cfg,
               "classifier-free guidance t at the last scale, rising from 0 at the first: (1+t)*conditional - "
               "t*unconditional; 0 = off, which also halves the work",
               between(0.0, 50.0)),
        option("top_k", &O::top_k, "draw among the k likeliest codes; 0 = all", between(0, 1 << 20)),
        option("top_p", &O::top_p, "draw within this share of the probability; 0 = off", between(0.0, 1.0)),
        option("smooth", &O::smooth,
               "mix codes by a Gumbel softmax instead of taking the drawn one: smoother pictures, worse scores"),
        option("graphs", &O::graphs,
               "on a GPU: record each scale's kernels with the first batch of a size, and launch them as one from then "
               "on"),
        option(
            "draws", &O::draws,
            "where random numbers are drawn: cpu, the same on every device, or device, which a GPU need not wait for",
            one_of("cpu", "device")),
    };
  }
};

struct Samples {
  torch::Tensor tokens;    ///< (N, L) int64, all scales joined
  torch::Tensor f_hat;     ///< (N, Cvae, h, w) float32
  torch::Tensor pictures;  ///< (N, channels, H, W) float32 in [0, 1]
};

/// Called after each scale with the sum of the decoded scales 0 … k, (N, Cvae, h, w). The next scale changes it in
/// place: clone what is to be kept.
using OnScale = std::function<void(int64_t k, const torch::Tensor& f_hat)>;

/// New pictures of one batch, scale by scale (VAR paper, section 3.2; reference `autoregressive_infer_cfg`). In float32
/// on the CPU the same weights, labels, options and generator give the reference's tokens.
/// @param labels (N) int64 in [-1, classes), any device; -1 is the label-free class
/// @param generator of the CPU, or of the transformer's device, which need not wait for the CPU's draws then; moves on
/// by N * l * V draws a scale, twice that with `smooth`
/// @param graphs of this transformer, kept from batch to batch; none = the transformer's own steps
/// @returns tensors on the transformer's device; made in inference mode, so autograd cannot use them
/// @throws Error failure: a label outside the classes, model and tokenizer that do not fit, logits that are not finite
Samples sample_pictures(Transformer transformer, Tokenizer tokenizer, const torch::Tensor& labels,
                        const SampleOptions& options, at::Generator& generator, const OnScale& on_scale = {},
                        StepGraphs* graphs = nullptr);

/// f_hat -> pictures in [0, 1], (N, channels, H, W) float32. @param dtype arithmetic of the decoder
/// @param at_once pictures that are decoded together; 0 = as many as fit (TokenizerOptions::pictures_at_once)
torch::Tensor decode_to_unit_range(Tokenizer tokenizer, const torch::Tensor& f_hat, c10::ScalarType dtype = c10::kFloat,
                                   int64_t at_once = 0);

}  // namespace nextscale
