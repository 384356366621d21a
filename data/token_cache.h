#pragma once

#include <filesystem>
#include <string>

#include <ATen/core/Tensor.h>

#include "nextscale/base/state_dict.h"
#include "nextscale/data/token_cache_config.h"
#include "nextscale/io/file_operations.h"

namespace nextscale {

/// Token maps of a data set, with what a transformer needs to be trained from them: codebook and phi of the tokenizer
/// that made them, so that no tokenizer file is needed and no other tokenizer can be mixed in.
/// On disk one safetensors file: train.tokens (N, L), train.labels (N), val.tokens, val.labels, quantize.*;
/// docs/formats.md.
struct TokenCache : TokenCacheConfig {
  at::Tensor train_tokens, val_tokens;  ///< (views * N, L) int16 or int32; train: view v of picture i at v * N + i
  at::Tensor train_labels, val_labels;  ///< (N) int64
  NamedTensors quantizer;               ///< state dict of vqvae/residual_quantizer
};

/// @throws Error failure, file complete or not there
void write_token_cache(const std::filesystem::path& path, const TokenCache& cache,
                       FileOperations& operations = system_files());
/// @throws Error failure naming file and entry: a damaged file, tokens outside the codebook, labels outside the classes
TokenCache read_token_cache(const std::filesystem::path& path);
/// XXH3-128 of names, shapes and values, hexadecimal.
std::string weights_hash(const NamedTensors& tensors);

}  // namespace nextscale
