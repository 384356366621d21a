#include "nextscale/train/token_source.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/data/loader.h"
#include "nextscale/io/json_file.h"
#include "nextscale/train/pictures.h"

namespace nextscale {
namespace {

// Teacher-forcing inputs are a dozen small operators per scale; made for this many pictures at once they cost next to
// nothing per step.
constexpr int64_t kPicturesAtOnce = 512;

void require_enough(int64_t pictures, int64_t batch) {
  if (pictures >= batch) return;
  throw usage({.where = "--batch",
               .what = "is larger than the data",
               .expected = "at most " + std::to_string(pictures),
               .got = std::to_string(batch)});
}

TokenBatch part_of(const TokenBatch& whole, int64_t first, int64_t count) {
  return {.labels = whole.labels.narrow(0, first, count),
          .tokens = whole.tokens.narrow(0, first, count),
          .inputs = whole.inputs.narrow(0, first, count)};
}

class CachedTokens : public TokenSource {
 public:
  CachedTokens(TokenCache cache, int64_t batch, int64_t seed, torch::Device device)
      : cache_(std::move(cache)), quantizer_(quantizer_of(cache_)), batch_(batch), seed_(seed), device_(device) {
    require_enough(pictures(), batch);
    quantizer_->to(device);
    block_steps_ = std::max<int64_t>(1, std::min(kPicturesAtOnce / batch, batches_per_epoch()));
  }

  const QuantizerOptions& quantizer() const override { return quantizer_->options(); }
  int64_t pictures() const override { return cache_.train_labels.size(0); }
  int64_t held_out() const override { return cache_.val_labels.size(0); }

  TokenBatch batch(int64_t step) override {
    const int64_t epoch = step / batches_per_epoch();
    if (epoch != epoch_) begin_epoch(epoch);
    // Blocks lie at fixed places in the epoch, so a resumed run computes the same ones.
    const int64_t in_epoch = step % batches_per_epoch();
    const int64_t block = in_epoch / block_steps_;
    if (block != block_) {
      const int64_t first = block * block_steps_ * batch_;
      const int64_t count = std::min(block_steps_ * batch_, batches_per_epoch() * batch_ - first);
      made_ = make(cache_.train_tokens, cache_.train_labels, rows_.narrow(0, first, count),
                   pictures_.narrow(0, first, count));
      block_ = block;
    }
    return part_of(made_, in_epoch % block_steps_ * batch_, batch_);
  }

  TokenBatch held_out_batch(const torch::Tensor& indices) override {
    return make(cache_.val_tokens, cache_.val_labels, indices, indices);
  }
  TokenBatch training_batch(const torch::Tensor& indices) override {
    return make(cache_.train_tokens, cache_.train_labels, indices, indices);
  }

 private:
  int64_t batches_per_epoch() const { return pictures() / batch_; }

  void begin_epoch(int64_t epoch) {
    auto generator = make_generator(derived_seed(static_cast<uint64_t>(seed_), static_cast<uint64_t>(epoch)));
    pictures_ = at::randperm(pictures(), generator, at::kLong);
    rows_ = pictures_;
    if (cache_.views > 1) {
      rows_ = pictures_ + pictures() * at::randint(cache_.views, {pictures()}, generator, at::kLong);
    }
    epoch_ = epoch;
    block_ = -1;
  }

  TokenBatch make(const torch::Tensor& tokens, const torch::Tensor& labels, const torch::Tensor& rows,
                  const torch::Tensor& pictures) {
    const at::NoGradGuard no_grad;
    TokenBatch out;
    out.tokens = to_device(tokens.index_select(0, rows), device_).to(at::kLong);  // (n, L)
    out.labels = to_device(labels.index_select(0, pictures), device_);            // (n)
    out.inputs = quantizer_->teacher_forcing_input(out.tokens);                   // (n, L - l_0, Cvae)
    return out;
  }

  TokenCache cache_;
  ResidualQuantizer quantizer_;
  int64_t batch_, seed_;
  torch::Device device_;
  int64_t block_steps_ = 1, epoch_ = -1, block_ = -1;
  torch::Tensor pictures_, rows_;  // of the epoch, in order: picture, and row of one of its views
  TokenBatch made_;                // of the block
};

class EncodedPictures : public TokenSource {
 public:
  EncodedPictures(Tokenizer tokenizer, const DataParts& parts, const DataOptions& options, int64_t batch, int64_t seed,
                  torch::Device device, torch::ScalarType dtype)
      : tokenizer_(std::move(tokenizer)), parts_(parts), options_(options), device_(device), dtype_(dtype) {
    require_enough(parts.train->size(), batch);
    loader_ = std::make_unique<Loader>(parts.train, parts, options, batch, seed);
    tokenizer_->to(device);
    tokenizer_->eval();
  }

  const QuantizerOptions& quantizer() const override { return tokenizer_->options().quantizer; }
  int64_t pictures() const override { return parts_.train->size(); }
  int64_t held_out() const override { return parts_.val->size(); }
  TokenBatch batch(int64_t step) override { return encode(loader_->batch(step)); }
  TokenBatch held_out_batch(const torch::Tensor& indices) override {
    return encode(load_chosen(*parts_.val, parts_, options_, indices));
  }
  TokenBatch training_batch(const torch::Tensor& indices) override {
    return encode(load_chosen(*parts_.train, parts_, options_, indices));
  }
  std::vector<std::string> data_faults() const override { return nextscale::data_faults(parts_); }

 private:
  TokenBatch encode(const Batch& batch) {
    const at::NoGradGuard no_grad;
    TokenBatch out;
    out.tokens = encode_pictures(tokenizer_, batch.pictures, device_, dtype_);
    out.labels = to_device(batch.labels, device_);
    out.inputs = tokenizer_->quantizer()->teacher_forcing_input(out.tokens);
    out.replaced = batch.replaced;
    return out;
  }

  Tokenizer tokenizer_;
  DataParts parts_;
  DataOptions options_;
  torch::Device device_;
  torch::ScalarType dtype_;
  std::unique_ptr<Loader> loader_;
};

}  // namespace

ResidualQuantizer quantizer_of(const TokenCache& cache) {
  QuantizerOptions options;
  options_from_json(options, parse_json(cache.quantizer_config, "token cache: quantizer"), "token cache: quantizer");
  ResidualQuantizer quantizer(options);
  load_state_dict(*quantizer, cache.quantizer, "token cache");
  quantizer->eval();
  return quantizer;
}

std::unique_ptr<TokenSource> tokens_from_cache(TokenCache cache, int64_t batch, int64_t seed, torch::Device device) {
  return std::make_unique<CachedTokens>(std::move(cache), batch, seed, device);
}

std::unique_ptr<TokenSource> tokens_from_pictures(Tokenizer tokenizer, const DataParts& parts,
                                                  const DataOptions& options, int64_t batch, int64_t seed,
                                                  torch::Device device, torch::ScalarType dtype) {
  return std::make_unique<EncodedPictures>(std::move(tokenizer), parts, options, batch, seed, device, dtype);
}

torch::Tensor fixed_subset(int64_t size, int64_t count) {
  auto generator = make_generator(derived_seed(0, 0));
  return at::randperm(size, generator, at::kLong).narrow(0, 0, std::min(size, count));
}

}  // namespace nextscale
