#pragma once

#include <string>

#include "nextscale/base/state_dict.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

/// Options of the tokenizer that a state dict of the reference belongs to, from names and shapes. What does not follow
/// (sides, norm_groups, znorm, the strength of phi) comes from the hints or is as published.
/// @throws Error failure naming file, entry, expected and found: no tokenizer, or something that cannot be known
TokenizerOptions tokenizer_options_from(const NamedTensors& weights, const TokenizerHints& hints,
                                        const std::string& where);
/// @throws Error usage naming the option if a hint contradicts what the file says
void check_hints(const TokenizerOptions& options, const TokenizerHints& hints, const std::string& where);

}  // namespace nextscale
