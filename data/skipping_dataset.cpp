#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>

#include <ATen/core/Tensor.h>

#include "nextscale/base/error.h"
#include "nextscale/data/stored_dataset.h"

namespace nextscale {
namespace {

class SkippingDataset : public StoredDataset {
 public:
  explicit SkippingDataset(std::shared_ptr<const StoredDataset> all) : all_(std::move(all)) {}
  int64_t size() const override { return all_->size(); }
  int64_t label(int64_t i) const override { return all_->label(i); }
  std::string name(int64_t i) const override { return all_->name(i); }
  std::string key(int64_t i) const override { return all_->key(i); }
  uint64_t bytes_of(int64_t i) const override { return all_->bytes_of(i); }
  /// Of the picture that stands there: the header of a bad one may say anything.
  PictureSize size_of(int64_t i) const override {
    const auto shown = picture(i);
    return {shown.size(0), shown.size(1)};
  }

  at::Tensor decoded(int64_t i, std::string& fault) const override {
    if (auto known = fault_of(i)) {
      fault = std::move(*known);
      return {};
    }
    auto result = all_->decoded(i, fault);
    if (!result.defined()) {
      const std::lock_guard lock(mutex_);
      faults_.emplace(i, fault);
      any_ = true;
    }
    return result;
  }

  at::Tensor picture(int64_t i) const override {
    std::string fault, first;
    for (int64_t k = i;;) {
      if (auto result = decoded(k, fault); result.defined()) return result;
      if (k == i) first = fault;
      do {
        k = (k + 1) % size();
      } while (label(k) != label(i));
      if (k == i) {
        throw failure({.where = first, .what = "no other picture of its class can be decoded either (--skip-bad)"});
      }
    }
  }

  bool is_replaced(int64_t i) const override { return fault_of(i).has_value(); }

  std::vector<std::string> faults() const override {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> texts;
    for (const auto& [i, fault] : faults_) texts.push_back(fault);
    return texts;
  }

 private:
  std::optional<std::string> fault_of(int64_t i) const {
    if (!any_) return std::nullopt;
    const std::lock_guard lock(mutex_);
    const auto found = faults_.find(i);
    return found == faults_.end() ? std::nullopt : std::optional(found->second);
  }

  std::shared_ptr<const StoredDataset> all_;
  mutable std::mutex mutex_;
  mutable std::atomic<bool> any_ = false;  // spares most data sets the lock
  mutable std::map<int64_t, std::string> faults_;
};

}  // namespace

std::shared_ptr<const StoredDataset> skipping_bad(std::shared_ptr<const StoredDataset> all) {
  return std::make_shared<SkippingDataset>(std::move(all));
}

}  // namespace nextscale
