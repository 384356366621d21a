#include "nextscale/data/token_cache.h"

#include <algorithm>

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <xxhash.h>

#include "nextscale/base/error.h"
#include "nextscale/io/weights.h"

namespace nextscale {
namespace {

constexpr const char* kFormat = "nextscale.tokens";
constexpr const char* kQuantizer = "quantize.";

class Hasher {
 public:
  Hasher() : state_(XXH3_createState()) { XXH3_128bits_reset(state_); }
  ~Hasher() { XXH3_freeState(state_); }
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void add(const void* data, size_t bytes) { XXH3_128bits_update(state_, data, bytes); }
  void add(int64_t number) { add(&number, sizeof(number)); }
  void add(const std::string& text) {
    add(static_cast<int64_t>(text.size()));
    add(text.data(), text.size());
  }
  std::string text() const {
    const auto hash = XXH3_128bits_digest(state_);
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  XXH3_state_t* state_;
};

NamedTensors all_tensors(const TokenCache& cache) {
  NamedTensors tensors = {{"train.tokens", cache.train_tokens},
                          {"train.labels", cache.train_labels},
                          {"val.tokens", cache.val_tokens},
                          {"val.labels", cache.val_labels}};
  for (const auto& [name, tensor] : cache.quantizer) tensors.emplace_back(kQuantizer + name, tensor);
  return tensors;
}

// Independent of the order in which a file keeps its entries.
std::string content_hash(const TokenCache& cache) {
  auto tensors = all_tensors(cache);
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return weights_hash(tensors);
}

bool is_token_type(at::ScalarType type) { return type == at::kShort || type == at::kInt; }

// One part: what a trainer would otherwise index out of bounds with.
struct PartCheck {
  const std::string& where;
  std::string part;
  const at::Tensor& tokens;
  const at::Tensor& labels;

  [[noreturn]] void refuse(const char* entry, std::string what, std::string expected, std::string got) const {
    throw failure({.where = fmt::format("{}: {}.{}", where, part, entry),
                   .what = std::move(what),
                   .expected = std::move(expected),
                   .got = std::move(got)});
  }
  void range(const char* entry, const at::Tensor& values, int64_t high) const {
    if (values.numel() == 0) return;
    const auto low = values.min().item<int64_t>(), top = values.max().item<int64_t>();
    if (low >= 0 && top < high) return;
    refuse(entry, "value out of range", fmt::format("0 to {}", high - 1), std::to_string(low < 0 ? low : top));
  }
  void shapes(int64_t views) const {
    if (!tokens.defined() || tokens.dim() != 2 || !is_token_type(tokens.scalar_type())) {
      refuse("tokens", "no token maps", "int16 or int32 (N, L)",
             tokens.defined() ? shape_text(tokens.sizes()) : "nothing");
    }
    if (!labels.defined() || labels.dim() != 1 || labels.scalar_type() != at::kLong) {
      refuse("labels", "no labels", "int64 (N)", labels.defined() ? shape_text(labels.sizes()) : "nothing");
    }
    if (tokens.size(0) != views * labels.size(0)) {
      refuse("tokens", "number of token maps differs", fmt::format("{} views of {} labels", views, labels.size(0)),
             std::to_string(tokens.size(0)));
    }
  }
};

void check(const TokenCache& cache, const std::string& where) {
  const auto codebook = find_tensor(cache.quantizer, "embedding.weight");  // (V, Cvae)
  if (!codebook.defined() || codebook.dim() != 2) {
    throw failure({.where = where + ": quantize.embedding.weight", .what = "codebook is missing"});
  }
  if (cache.views < 1) {
    throw failure({.where = where, .what = "views", .expected = "at least 1", .got = std::to_string(cache.views)});
  }
  const PartCheck train{where, "train", cache.train_tokens, cache.train_labels};
  const PartCheck val{where, "val", cache.val_tokens, cache.val_labels};
  train.shapes(cache.views);
  val.shapes(1);
  if (cache.train_tokens.size(0) == 0) train.refuse("tokens", "no token maps inside", "", "");
  if (cache.train_tokens.size(1) != cache.val_tokens.size(1)) {
    val.refuse("tokens", "length differs from training's", std::to_string(cache.train_tokens.size(1)),
               std::to_string(cache.val_tokens.size(1)));
  }
  // Without classes every label is 0.
  const auto classes = std::max<int64_t>(1, static_cast<int64_t>(cache.class_names.size()));
  for (const auto* part : {&train, &val}) {
    part->range("tokens", part->tokens, codebook.size(0));
    part->range("labels", part->labels, classes);
  }
}

}  // namespace

std::string weights_hash(const NamedTensors& tensors) {
  Hasher hasher;
  for (const auto& [name, tensor] : tensors) {
    hasher.add(name);
    hasher.add(static_cast<int64_t>(tensor.scalar_type()));
    hasher.add(tensor.dim());
    for (const auto size : tensor.sizes()) hasher.add(size);
    const auto values = tensor.detach().cpu().contiguous();
    hasher.add(values.const_data_ptr(), values.nbytes());
  }
  return hasher.text();
}

void write_token_cache(const std::filesystem::path& path, const TokenCache& cache, FileOperations& operations) {
  check(cache, path.string());
  WeightsFile file{.tensors = all_tensors(cache), .metadata = {}};
  for (auto& [name, tensor] : file.tensors) tensor = tensor.detach().contiguous();
  file.metadata = {
      {"format", kFormat}, {"config", token_cache_config_text(cache)}, {"content_hash", content_hash(cache)}};
  write_weights(path, file, operations);
}

TokenCache read_token_cache(const std::filesystem::path& path) {
  const auto where = path.string();
  const auto file = read_weights(path);
  expect_format(file, kFormat, where);
  const auto text = [&](const char* key) {
    const auto found = file.metadata.find(key);
    return found == file.metadata.end() ? std::string() : found->second;
  };
  TokenCache cache{parse_token_cache_config(text("config"), where), {}, {}, {}, {}, {}};
  cache.train_tokens = find_tensor(file.tensors, "train.tokens");
  cache.train_labels = find_tensor(file.tensors, "train.labels");
  cache.val_tokens = find_tensor(file.tensors, "val.tokens");
  cache.val_labels = find_tensor(file.tensors, "val.labels");
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(kQuantizer)) cache.quantizer.emplace_back(name.substr(std::string(kQuantizer).size()), tensor);
  }
  check(cache, where);
  if (content_hash(cache) != text("content_hash")) {
    throw failure({.where = where, .what = "content does not fit its hash: the file is damaged"});
  }
  return cache;
}

}  // namespace nextscale
