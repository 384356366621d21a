#include "nextscale/evaluate/feature_set.h"

#include <algorithm>
#include <deque>
#include <future>
#include <optional>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <xxhash.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr int64_t kRowsAtOnce = 256;    // rows that go into mean and covariance together
constexpr size_t kBatchesAhead = 2;     // that are decoded while the network is busy
constexpr int64_t kSpatialRows = 4096;  // up to here the spatial features are kept for an exact distance

uint64_t pixel_hash(const at::Tensor& picture) {
  const auto whole = picture.contiguous();
  return XXH3_64bits(whole.const_data_ptr(), static_cast<size_t>(whole.nbytes()));
}

at::Tensor empty_prepared(const FeatureNetwork& network, int64_t count, int64_t height, int64_t width) {
  auto shape = network.prepared_shape(height, width);
  shape.insert(shape.begin(), count);
  return at::empty(shape, at::kFloat);
}

/// A batch that threads are working on.
struct PreparedBatch {
  int64_t first = 0, count = 0;
  at::Tensor prepared;
  std::vector<uint64_t> hashes;
  std::vector<std::future<void>> parts;
};

struct Size {
  int64_t height, width;
};

void prepare_part(const Dataset& pictures, const FeatureNetwork& network, const Size& size, const std::string& first,
                  PreparedBatch& batch, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const auto picture = pictures.picture(batch.first + i);
    if (picture.size(0) != size.height || picture.size(1) != size.width) {
      throw failure({pictures.name(batch.first + i), "has another size than " + first + " (--side N crops all to one)",
                     fmt::format("{} x {}", size.width, size.height),
                     fmt::format("{} x {}", picture.size(1), picture.size(0))});
    }
    network.prepare(picture, batch.prepared.mutable_data_ptr<float>() + i * batch.prepared.stride(0));
    batch.hashes[static_cast<size_t>(i)] = pixel_hash(picture);
  }
}

std::unique_ptr<PreparedBatch> begin_batch(const Dataset& pictures, const FeatureNetwork& network, const Size& size,
                                           const ExtractionSettings& settings, int64_t first) {
  auto batch = std::make_unique<PreparedBatch>();
  batch->first = first;
  batch->count = std::min(settings.batch, pictures.size() - first);
  batch->prepared = empty_prepared(network, batch->count, size.height, size.width);
  batch->hashes.resize(static_cast<size_t>(batch->count));
  const auto name = pictures.name(0);
  const int64_t parts = std::max<int64_t>(1, std::min(settings.workers, batch->count));
  for (int64_t part = 0; part < parts; ++part) {
    auto* target = batch.get();
    batch->parts.push_back(
        std::async(settings.workers > 0 ? std::launch::async : std::launch::deferred, [&, target, part, parts, name] {
          prepare_part(pictures, network, size, name, *target, target->count * part / parts,
                       target->count * (part + 1) / parts);
        }));
  }
  return batch;
}

}  // namespace

uint64_t kept_bytes(const Wanted& wanted, int64_t pictures, const FeatureNetwork& network) {
  const auto n = static_cast<uint64_t>(pictures);
  uint64_t values = 0;
  if (wanted.rows) values += n * static_cast<uint64_t>(network.width());
  if (wanted.rows && wanted.spatial && pictures <= kSpatialRows) values += n * 2023;
  if (wanted.scores) values += n * 1008;
  return values * sizeof(float);
}

FeatureCollector::FeatureCollector(FeatureNetwork& network, const Wanted& wanted, int64_t expected)
    : network_(network), wanted_(wanted), expected_(expected), hash_(XXH3_createState()) {
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(hash_));
}

FeatureCollector::~FeatureCollector() { XXH3_freeState(static_cast<XXH3_state_t*>(hash_)); }

void FeatureCollector::add(const at::Tensor& pictures, const std::vector<int64_t>& labels) {
  const int64_t height = pictures.size(1), width = pictures.size(2);
  auto prepared = empty_prepared(network_, pictures.size(0), height, width);
  std::vector<uint64_t> hashes;
  for (int64_t i = 0; i < pictures.size(0); ++i) {
    network_.prepare(pictures[i], prepared.mutable_data_ptr<float>() + i * prepared.stride(0));
    hashes.push_back(pixel_hash(pictures[i]));
  }
  add_prepared(prepared, hashes, height, width, labels);
}

void FeatureCollector::add_prepared(const at::Tensor& prepared, const std::vector<uint64_t>& hashes, int64_t height,
                                    int64_t width, const std::vector<int64_t>& labels) {
  const auto out = network_.run(prepared);
  const int64_t rows = out.features.size(0);
  if (seen_ + rows > expected_) {
    throw failure({.what = "more pictures than were announced", .expected = std::to_string(expected_), .got = {}});
  }
  const auto keep = [&](at::Tensor& all, const at::Tensor& some) {
    if (!all.defined()) all = at::empty({expected_, some.size(1)}, at::kFloat);
    all.slice(0, seen_, seen_ + rows).copy_(some);
  };
  if (wanted_.rows) keep(set_.rows, out.features);
  if (wanted_.scores && out.logits.defined()) keep(set_.logits, out.logits);
  if (wanted_.rows && wanted_.spatial && expected_ <= kSpatialRows) keep(set_.spatial_rows, out.spatial);
  pending_.push_back(out.features);
  if (wanted_.spatial) pending_spatial_.push_back(out.spatial);
  pending_rows_ += rows;
  if (out.predicted.defined()) predicted_.push_back(out.predicted);
  set_.labels.insert(set_.labels.end(), labels.begin(), labels.end());
  set_.height = height;
  set_.width = width;
  auto* state = static_cast<XXH3_state_t*>(hash_);
  for (const uint64_t hash : hashes) XXH3_128bits_update(state, &hash, sizeof(hash));
  seen_ += rows;
  if (pending_rows_ >= kRowsAtOnce) flush();
}

void FeatureCollector::flush() {
  if (pending_.empty()) return;
  set_.features.add(at::cat(pending_));
  if (!pending_spatial_.empty()) set_.spatial.add(at::cat(pending_spatial_));
  pending_.clear();
  pending_spatial_.clear();
  pending_rows_ = 0;
}

FeatureSet FeatureCollector::finish() {
  flush();
  if (seen_ == 0) throw failure({.what = "no pictures to look at"});
  for (auto* rows : {&set_.rows, &set_.logits, &set_.spatial_rows}) {
    if (rows->defined()) *rows = rows->slice(0, 0, seen_);
  }
  if (!predicted_.empty()) set_.predicted = at::cat(predicted_);
  auto* state = static_cast<XXH3_state_t*>(hash_);
  const int64_t sizes[] = {set_.height, set_.width};
  XXH3_128bits_update(state, sizes, sizeof(sizes));
  const auto hash = XXH3_128bits_digest(state);
  set_.hash = fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  return std::move(set_);
}

std::optional<FeatureSet> extract(const Dataset& pictures, FeatureNetwork& network, const Wanted& wanted,
                                  const ExtractionSettings& settings,
                                  const std::function<bool(int64_t done)>& on_pictures) {
  const auto first = pictures.picture(0);
  const Size size{first.size(0), first.size(1)};
  FeatureCollector collector(network, wanted, pictures.size());
  std::deque<std::unique_ptr<PreparedBatch>> ahead;
  int64_t begun = 0;
  for (int64_t done = 0; done < pictures.size();) {
    while (begun < pictures.size() && ahead.size() <= kBatchesAhead) {
      ahead.push_back(begin_batch(pictures, network, size, settings, begun));
      begun += ahead.back()->count;
    }
    const auto batch = std::move(ahead.front());
    ahead.pop_front();
    for (auto& part : batch->parts) part.get();
    std::vector<int64_t> labels;
    for (int64_t i = 0; i < batch->count; ++i) labels.push_back(pictures.label(batch->first + i));
    collector.add_prepared(batch->prepared, batch->hashes, size.height, size.width, labels);
    done += batch->count;
    if (on_pictures && !on_pictures(done)) return std::nullopt;
  }
  return collector.finish();
}

}  // namespace nextscale
