#pragma once

#include <cstdint>

#include <torch/types.h>

namespace torch::nn {
class Module;
}

namespace nextscale {

struct TransformerOptions;

/// Width of the feed-forward's hidden layer: width * mlp_ratio, halves to even as in Python.
int64_t feed_forward_width(const TransformerOptions& options);

/// Initial values of a transformer (reference var.py, constructor and init_weights, with build_vae_var's defaults in
/// the options): weights N(0, init_std); position and level embeddings N(0, init_position_std); layers that end a
/// residual branch divided by sqrt(2 depth); AdaLN projections and head shrunk; biases zero; attention factors log 4.
/// The reference cuts its normal draws at +-2, more than thirty deviations away; that is left out.
/// @param module    a Transformer; its parameters are told apart by name
/// @param generator CPU; draws in state-dict order
void initialise_transformer(torch::nn::Module& module, const TransformerOptions& options, at::Generator generator);

}  // namespace nextscale
