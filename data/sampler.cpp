#include "nextscale/data/sampler.h"

#include <algorithm>

#include <ATen/core/TensorBody.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/randperm.h>

#include "nextscale/base/random.h"

namespace nextscale {

IndexRange evaluation_range(int64_t pictures, int64_t ranks, int64_t rank) {
  // NumPy's linspace in doubles, cut to integers; its last value is the end itself.
  const double step = static_cast<double>(pictures) / static_cast<double>(ranks);
  const auto border = [&](int64_t i) {
    return i == ranks ? pictures : static_cast<int64_t>(static_cast<double>(i) * step);
  };
  return {border(rank), border(rank + 1)};
}

TrainingOrder::TrainingOrder(const TrainingOrderOptions& options) : options_(options), epoch_(options.start_epoch) {
  TORCH_CHECK(options.global_batch % options.ranks == 0, "global_batch must be a multiple of ranks");
  run_ = run_of_epoch();
}

int64_t TrainingOrder::batches_per_epoch() const {
  return (options_.pictures + options_.global_batch - 1) / options_.global_batch;
}

std::vector<int64_t> TrainingOrder::run_of_epoch() const {
  const auto& o = options_;
  const int64_t wanted = batches_per_epoch() * o.global_batch;
  at::Tensor all;  // (pictures) int64
  if (o.shuffle) {
    auto generator = make_generator(static_cast<uint64_t>(epoch_ + o.seed));
    all = at::randperm(o.pictures, generator, at::TensorOptions(at::kLong));
    if (o.repeats > 1) {
      all =
          all.slice(0, 0, (o.pictures + o.repeats - 1) / o.repeats).repeat_interleave(o.repeats, 0).slice(0, 0, wanted);
    }
  } else {
    all = at::arange(o.pictures, at::TensorOptions(at::kLong));
  }
  const int64_t missing = wanted - all.size(0);
  if (missing > 0 && o.fill_last) all = at::cat({all, all.slice(0, 0, missing)});
  const auto borders = at::linspace(0, all.size(0), o.ranks + 1, at::TensorOptions(at::kInt));
  const auto run = all.slice(0, borders[o.rank].item<int64_t>(), borders[o.rank + 1].item<int64_t>()).contiguous();
  const auto* data = run.const_data_ptr<int64_t>();
  return {data, data + run.numel()};
}

std::vector<int64_t> TrainingOrder::next() {
  if (position_ >= run_.size()) {
    ++epoch_;
    if (options_.shuffle) run_ = run_of_epoch();
    position_ = 0;
  }
  const auto size = static_cast<size_t>(options_.global_batch / options_.ranks);
  const auto end = std::min(position_ + size, run_.size());
  const std::vector<int64_t> batch(run_.begin() + static_cast<std::ptrdiff_t>(position_),
                                   run_.begin() + static_cast<std::ptrdiff_t>(end));
  position_ = end;
  return batch;
}

}  // namespace nextscale
