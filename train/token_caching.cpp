#include "nextscale/train/token_caching.h"

#include <algorithm>
#include <future>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/data/loader.h"
#include "nextscale/train/pictures.h"

namespace nextscale {
namespace {

struct View {
  int64_t crop = -1;  // -1: validation's
  bool mirrored = false;
};

std::vector<View> views_of(const TokenCachingOptions& options, const DataOptions& data) {
  std::vector<View> views;
  for (int64_t crop = options.crops > 0 ? 0 : -1; crop < options.crops; ++crop) {
    views.push_back({crop, false});
    if (data.hflip) views.push_back({crop, true});
    if (crop < 0) break;
  }
  return views;
}

/// One part of a data set as one kind of view.
struct Reader {
  const Dataset& dataset;
  const DataParts& parts;
  const DataOptions& data;
  View view;
  uint64_t seed;

  /// (count, C, side, side) float32. @throws Error of a picture that cannot be read
  torch::Tensor read(int64_t first, int64_t count) const {
    if (view.crop < 0) {
      const auto pictures = load_in_order(dataset, parts, data, first, count).pictures;
      return view.mirrored ? pictures.flip({3}) : pictures;
    }
    const uint64_t crop_seed = derived_seed(seed, static_cast<uint64_t>(view.crop));
    return read_in_parallel(first, count, data.workers, [&](int64_t i) {
      return load_training_view(dataset, parts, data, i, derived_seed(crop_seed, static_cast<uint64_t>(i)),
                                view.mirrored);
    });
  }
};

torch::Tensor labels_of(const Dataset& dataset) {
  auto labels = at::empty({dataset.size()}, at::kLong);
  for (int64_t i = 0; i < dataset.size(); ++i) labels.data_ptr<int64_t>()[i] = dataset.label(i);
  return labels;
}

/// One job of cache_tokens: counts, asks whether to go on, encodes.
class Encoding {
 public:
  Encoding(Tokenizer tokenizer, int64_t batch, torch::Device device, torch::ScalarType dtype,
           const TokenCachingCalls& calls)
      : tokenizer_(std::move(tokenizer)), batch_(batch), device_(device), dtype_(dtype), calls_(calls) {}

  /// Fills `tokens` (count, L). @returns false if asked to stop
  bool encode(const Reader& reader, torch::Tensor tokens) {
    const int64_t count = tokens.size(0);
    const auto read = [&reader, count, this](int64_t first) {
      return reader.read(first, std::min(batch_, count - first));
    };
    if (count == 0) return true;
    auto next = std::async(std::launch::async, read, 0);  // the next batch is read while this one is encoded
    for (int64_t first = 0; first < count; first += batch_) {
      if (calls_.stop && calls_.stop()) return false;
      const auto pictures = next.get();
      if (first + batch_ < count) next = std::async(std::launch::async, read, first + batch_);
      tokens.narrow(0, first, pictures.size(0)).copy_(encode_pictures(tokenizer_, pictures, device_, dtype_));
      done_ += pictures.size(0);
      if (calls_.progress) calls_.progress(done_);
    }
    return true;
  }

 private:
  Tokenizer tokenizer_;
  int64_t batch_;
  torch::Device device_;
  torch::ScalarType dtype_;
  const TokenCachingCalls& calls_;
  int64_t done_ = 0;
};

}  // namespace

void check_together(const TokenCachingOptions& options, const DataParts& parts) {
  if (options.crops > 0 && !parts.resize) {
    throw usage({.where = "--crops",
                 .what = "the pictures are not cropped: every crop would be the same",
                 .expected = "0",
                 .got = std::to_string(options.crops)});
  }
}

int64_t token_caching_total(const TokenCachingOptions& options, const DataParts& parts, const DataOptions& data) {
  return static_cast<int64_t>(views_of(options, data).size()) * parts.train->size() + parts.val->size();
}

std::optional<TokenCache> cache_tokens(Tokenizer tokenizer, const DataParts& parts, const DataOptions& data,
                                       const TokenCachingOptions& options, int64_t seed, torch::Device device,
                                       torch::ScalarType dtype, const TokenCachingCalls& calls) {
  check_together(options, parts);
  const auto& config = tokenizer->options();
  require_side(config, parts.side, parts.channels);
  tokenizer->eval();

  TokenCache cache;
  cache.tokenizer_hash = weights_hash(state_dict(*tokenizer));
  cache.tokenizer_config = to_json(bind_tokenizer_options(const_cast<TokenizerOptions&>(config))).dump();
  cache.quantizer_config = options_to_json(config.quantizer).dump();
  for (const auto& [name, tensor] : state_dict(*tokenizer->quantizer())) {
    cache.quantizer.emplace_back(name, tensor.detach().to(at::kCPU));
  }
  cache.class_names = parts.class_names;
  cache.data_fingerprint = parts.fingerprint;
  cache.train_labels = labels_of(*parts.train);
  cache.val_labels = labels_of(*parts.val);

  tokenizer->to(device);
  to_channels_last(*tokenizer);
  const auto views = views_of(options, data);
  cache.views = static_cast<int64_t>(views.size());
  const auto type = config.quantizer.codes <= 1 << 15 ? at::kShort : at::kInt;
  const int64_t length = tokenizer->scales().length(), pictures = parts.train->size();
  cache.train_tokens = at::empty({cache.views * pictures, length}, type);
  cache.val_tokens = at::empty({parts.val->size(), length}, type);
  Encoding encoding(tokenizer, options.batch > 0 ? options.batch : config.pictures_at_once(device), device, dtype,
                    calls);
  for (int64_t v = 0; v < cache.views; ++v) {
    const Reader reader{*parts.train, parts, data, views[static_cast<size_t>(v)], static_cast<uint64_t>(seed)};
    if (!encoding.encode(reader, cache.train_tokens.narrow(0, v * pictures, pictures))) return std::nullopt;
  }
  const Reader reader{*parts.val, parts, data, View{}, static_cast<uint64_t>(seed)};
  if (!encoding.encode(reader, cache.val_tokens)) return std::nullopt;
  cache.replaced = static_cast<int64_t>(data_faults(parts).size());
  return cache;
}

}  // namespace nextscale
