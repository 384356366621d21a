#pragma once

#include <string>
#include <vector>

#include "nextscale/base/error.h"

namespace nextscale::cli {

/// A verb gets the words after its name and returns how it ended; Errors are reported by main.
using Words = std::vector<std::string>;

ExitCode train_tokenizer(const Words& words);
ExitCode eval_tokenizer(const Words& words);
ExitCode cache_tokens(const Words& words);
ExitCode train(const Words& words);
ExitCode sample(const Words& words);
ExitCode train_classifier(const Words& words);
ExitCode classify(const Words& words);
ExitCode evaluate(const Words& words);
ExitCode encode(const Words& words);
ExitCode decode(const Words& words);
ExitCode convert(const Words& words);
ExitCode inspect(const Words& words);

}  // namespace nextscale::cli
