#include "nextscale/train/pictures.h"

#include <algorithm>
#include <future>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/base/runtime.h"

namespace nextscale {

torch::Tensor read_in_parallel(int64_t first, int64_t count, int64_t workers,
                               const std::function<torch::Tensor(int64_t)>& read) {
  std::vector<torch::Tensor> pictures(static_cast<size_t>(count));
  const int64_t threads = std::clamp<int64_t>(workers, 1, std::max<int64_t>(count / 8, 1));
  const auto read_every = [&](int64_t begin) {
    for (int64_t i = begin; i < count; i += threads) pictures[static_cast<size_t>(i)] = read(first + i);
  };
  std::vector<std::future<void>> others;
  for (int64_t t = 1; t < threads; ++t) others.push_back(std::async(std::launch::async, read_every, t));
  read_every(0);
  for (auto& other : others) other.get();
  return at::stack(pictures);
}

Batch load_chosen(const Dataset& dataset, const DataParts& parts, const DataOptions& options,
                  const torch::Tensor& indices) {
  const auto* chosen = indices.const_data_ptr<int64_t>();
  auto labels = at::empty({indices.size(0)}, at::kLong);
  for (int64_t i = 0; i < indices.size(0); ++i) labels.data_ptr<int64_t>()[i] = dataset.label(chosen[i]);
  auto pictures = read_in_parallel(0, indices.size(0), options.workers, [&](int64_t i) {
    return load_in_order(dataset, parts, options, chosen[i], 1).pictures[0];
  });
  return {std::move(pictures), std::move(labels), indices};
}

std::vector<std::string> data_faults(const DataParts& parts) {
  auto faults = parts.train->faults();
  if (!parts.val) return faults;
  for (auto& fault : parts.val->faults()) faults.push_back(std::move(fault));
  return faults;
}

torch::Tensor encode_pictures(Tokenizer& tokenizer, const torch::Tensor& pictures, torch::Device device,
                              torch::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  const AutocastGuard autocast(device.type(), dtype);
  return tokenizer->encode(to_device(pictures, device).contiguous(at::MemoryFormat::ChannelsLast));
}

torch::Tensor to_device(const torch::Tensor& on_cpu, torch::Device device) {
  if (!device.is_cuda() || !on_cpu.is_cpu()) return on_cpu.to(device);
  return on_cpu.pin_memory().to(device, /*non_blocking=*/true);
}

void to_channels_last(torch::nn::Module& module) {
  for (auto& parameter : module.parameters()) {
    if (parameter.dim() == 4) parameter.set_data(parameter.contiguous(at::MemoryFormat::ChannelsLast));
  }
}

void require_side(const TokenizerOptions& options, int64_t picture_side, int64_t picture_channels) {
  if (options.picture_side() != picture_side) {
    throw usage({.where = "--sides",
                 .what = "do not fit the pictures",
                 .expected = fmt::format(
                     "last side {} = picture side {} / {} pixels a cell (space-to-depth {} x 2^{} "
                     "for {} levels of --ch-mult)",
                     fmt::format("{:g}", static_cast<double>(picture_side) / static_cast<double>(options.downsample())),
                     picture_side, options.downsample(), options.space_to_depth, options.ch_mult.size() - 1,
                     options.ch_mult.size()),
                 .got = std::to_string(options.quantizer.sides.back())});
  }
  if (options.channels != picture_channels) {
    throw usage({.where = "--channels",
                 .what = "the tokenizer takes other pictures",
                 .expected = std::to_string(options.channels),
                 .got = std::to_string(picture_channels)});
  }
}

}  // namespace nextscale
