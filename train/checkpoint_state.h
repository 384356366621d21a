#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nextscale {

/// state.json of a checkpoint: how far the run was.
struct CheckpointState {
  std::string kind;  ///< "tokenizer", "transformer", "classifier"
  int64_t step = 0;
  int64_t replaced = 0;  ///< pictures that stood in for bad ones, from step 0 on
};

/// @param where names the file in errors
/// @throws Error failure: no JSON, nested too deep, kind or step missing or of another type
CheckpointState parse_checkpoint_state(std::string_view text, const std::string& where);

}  // namespace nextscale
