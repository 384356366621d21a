#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

namespace nextscale::cli {

/// What a file of weights, a token cache, a checkpoint or a run holds; every tensor of every file in it is read. Keys:
/// kind ("tokenizer", "transformer", "classifier", "tokens" …, "weights" for files that do not say), source ("file",
/// "checkpoint", "run"), path, file (the weights that are described), weights ("ema", "raw" or null), step, steps,
/// finished (null where unknown), parameters (numbers in floating-point tensors), bytes (of the file, or of all files
/// of the checkpoint), files ({name, bytes}), tensors ({name, dtype, shape}), not_finite (names of tensors with NaN or
/// infinity), config, metadata (the file's other texts); of runs also checkpoints (steps), snapshots (files) and run
/// (config.json).
/// @throws Error failure naming file and entry of what is damaged
nlohmann::ordered_json inspect_path(const std::filesystem::path& file_or_run, bool raw);

}  // namespace nextscale::cli
