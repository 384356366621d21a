#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nextscale/base/state_dict.h"
#include "nextscale/var/transformer.h"

namespace nextscale {

/// Options of the transformer that a state dict of the reference belongs to, from names and shapes: sides from the
/// buffer lvl_1L (without it the published ones of that length), heads from scale_mul_1H11 (without it width / 64),
/// norm_eps as published. Hints take the place of what does not follow.
/// @throws Error failure naming file, entry, expected and found: no transformer, or something that cannot be known
TransformerOptions transformer_options_from(const NamedTensors& weights, const TransformerHints& hints,
                                            const std::string& where);
/// @throws Error usage naming the option if a hint contradicts what the file says
void check_hints(const TransformerOptions& options, const TransformerHints& hints, const std::string& where);
/// "d30 (depth 30, width 1920)", for messages.
std::string transformer_size_text(int64_t depth, int64_t width);

}  // namespace nextscale
