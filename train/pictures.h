#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "nextscale/data/dataset.h"
#include "nextscale/data/loader.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {

/// Pictures first … first+count-1 of something, each (C, H, W), read by `workers` threads and joined.
/// @throws Error of the first picture that cannot be read
torch::Tensor read_in_parallel(int64_t first, int64_t count, int64_t workers,
                               const std::function<torch::Tensor(int64_t)>& read);

/// Chosen pictures as load_in_order gives them (validation's resize and crop). @param indices (n) int64
Batch load_chosen(const Dataset& dataset, const DataParts& parts, const DataOptions& options,
                  const torch::Tensor& indices);

/// Why pictures of both parts that were met so far cannot be decoded (--skip-bad), a line each.
std::vector<std::string> data_faults(const DataParts& parts);

/// Token maps of pictures; convolutions in `dtype`, the quantizer in float32. The tokenizer must be in evaluation mode.
/// @param pictures (B, channels, H, W) float32 in [-1, 1], on any device
/// @returns (B, L) int64 on `device`
torch::Tensor encode_pictures(Tokenizer& tokenizer, const torch::Tensor& pictures, torch::Device device,
                              torch::ScalarType dtype);

/// On a GPU the copy goes by way of pinned memory and is not waited for: the GPU works on while the next batch comes.
/// @param on_cpu any shape; may be on `device` already
torch::Tensor to_device(const torch::Tensor& on_cpu, torch::Device device);

/// Weights of convolutions in channels-last order, which convolutions on channels-last pictures read without a copy.
void to_channels_last(torch::nn::Module& module);

/// A training picture's side against the tokenizer's. @throws Error usage naming the relation
void require_side(const TokenizerOptions& options, int64_t picture_side, int64_t picture_channels);

}  // namespace nextscale
