#include "nextscale/evaluate/features.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/data/loader.h"

namespace nextscale {
namespace {

class Subset : public Dataset {
 public:
  Subset(std::shared_ptr<const Dataset> dataset, std::vector<int64_t> indices)
      : dataset_(std::move(dataset)), indices_(std::move(indices)) {}
  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  int64_t label(int64_t i) const override { return dataset_->label(at(i)); }
  at::Tensor picture(int64_t i) const override { return dataset_->picture(at(i)); }
  std::string name(int64_t i) const override { return dataset_->name(at(i)); }

 private:
  int64_t at(int64_t i) const { return indices_.at(static_cast<size_t>(i)); }
  std::shared_ptr<const Dataset> dataset_;
  std::vector<int64_t> indices_;
};

void require_fitting(const ClassifierOptions& options, const at::Tensor& pictures) {
  const std::vector<int64_t> wanted{options.channels, options.side, options.side};
  if (pictures.dim() == 4 && pictures.sizes().slice(1) == at::IntArrayRef(wanted)) return;
  throw failure({"classifier", "was trained on other pictures", shape_text(wanted),
                 shape_text(pictures.dim() == 4 ? pictures.sizes().slice(1) : pictures.sizes())});
}

}  // namespace

double Judged::accuracy() const {
  if (!labels.defined() || labels.numel() == 0)
    throw failure({.what = "no accuracy without pictures and their classes"});
  return (predicted == labels).to(at::kDouble).mean().item<double>();
}

Judged judge_pictures(Classifier& classifier, const at::Tensor& pictures, const JudgeSettings& settings) {
  require_fitting(classifier->options(), pictures);
  const at::NoGradGuard no_grad;
  classifier->eval();
  std::vector<at::Tensor> features, predicted;
  for (const auto& some : pictures.split(settings.batch)) {
    at::Tensor seen, scores;
    {
      const AutocastGuard autocast(settings.device.type(), settings.dtype);
      seen = classifier->features(some.to(settings.device));
      scores = classifier->logits(seen);
    }
    features.push_back(seen.to(at::kCPU, at::kFloat));
    predicted.push_back(scores.argmax(1).to(at::kCPU));
  }
  return {at::cat(features), at::cat(predicted), {}};
}

Judged judge_dataset(Classifier& classifier, const Dataset& dataset, const DataParts& parts, const DataOptions& options,
                     const JudgeSettings& settings, const std::function<void(int64_t done)>& on_pictures) {
  std::vector<at::Tensor> features, predicted, labels;
  for (int64_t first = 0; first < dataset.size(); first += settings.batch) {
    const int64_t count = std::min(settings.batch, dataset.size() - first);
    const Batch batch = load_in_order(dataset, parts, options, first, count);
    const Judged judged = judge_pictures(classifier, batch.pictures, settings);
    features.push_back(judged.features);
    predicted.push_back(judged.predicted);
    labels.push_back(batch.labels);
    if (on_pictures) on_pictures(first + count);
  }
  if (features.empty()) throw failure({.what = "no pictures to look at"});
  return {at::cat(features), at::cat(predicted), at::cat(labels)};
}

std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> dataset, std::vector<int64_t> indices) {
  return std::make_shared<Subset>(std::move(dataset), std::move(indices));
}

std::vector<int64_t> chosen_positions(int64_t size, int64_t count, uint64_t seed) {
  auto generator = make_generator(seed);
  const auto order = at::randperm(size, generator, at::kLong).slice(0, 0, std::min(count, size)).contiguous();
  return {order.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>() + order.numel()};
}

}  // namespace nextscale
