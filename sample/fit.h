#pragma once

#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/residual_quantizer.h"

namespace nextscale {

/// A transformer speaks of codes that another part turns into pictures: both must count, shape and order them alike.
/// @throws Error failure naming what differs with both values: codes V, their width Cvae, sides of the token maps
void check_fit(const TransformerOptions& transformer, const QuantizerOptions& quantizer);

}  // namespace nextscale
