#include "nextscale/data/loader.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randperm.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/data/crops.h"
#include "nextscale/data/picture.h"

namespace nextscale {

// What happens to a picture between the file and the network.
struct PictureView {
  int64_t side, channels;
  bool resize, center;
  int64_t length;  // shorter side before the crop

  PictureView(const DataParts& parts, const DataOptions& options, bool training)
      : side(parts.side),
        channels(parts.channels),
        resize(parts.resize),
        center(!training || options.crop == "center"),
        length(mid_length(options.mid_reso, parts.side)) {}

  // (side, side, channels) uint8. The mirror comes first, as in the reference.
  at::Tensor cut(const Dataset& dataset, int64_t index, bool mirror, at::Generator* generator) const {
    auto picture = dataset.picture(index);
    if (!resize && (picture.size(0) != side || picture.size(1) != side)) {
      throw failure({.where = dataset.name(index),
                     .what = "size differs (--side and --crop random take pictures of any size)",
                     .expected = fmt::format("{} x {}", side, side),
                     .got = fmt::format("{} x {}", picture.size(1), picture.size(0))});
    }
    if (mirror) picture = mirrored(picture);
    if (!resize) return picture;
    picture = resize_shorter_side(picture, length);
    const auto offsets = center || !generator ? center_offsets(picture.size(0), picture.size(1), side)
                                              : random_offsets(picture.size(0), picture.size(1), side, *generator);
    return crop(picture, offsets, side);
  }
};

namespace {

constexpr int64_t kAhead = 2;   // batches that are made while one is used
constexpr int64_t kChunk = 16;  // pictures that a worker takes at a time

// Writes (C, side, side) float32 in [-1, 1]. A table and one thread: LibTorch's operators would start a team of threads
// below each worker.
void write_network_range(const at::Tensor& picture, float* out) {
  static const auto kTable = [] {
    std::array<float, 256> table{};
    for (size_t i = 0; i < table.size(); ++i) {
      const float unit = static_cast<float>(i) / 255.0f;
      table[i] = unit + unit - 1.0f;
    }
    return table;
  }();
  const auto* data = picture.const_data_ptr<uint8_t>();
  for (int64_t c = 0; c < picture.size(2); ++c) {
    for (int64_t y = 0; y < picture.size(0); ++y) {
      const auto* in = data + c * picture.stride(2) + y * picture.stride(0);
      for (int64_t x = 0; x < picture.size(1); ++x, in += picture.stride(1)) *out++ = kTable[*in];
    }
  }
}

Batch empty_batch(const PictureView& view, int64_t size) {
  const at::TensorOptions integers(at::kLong);
  return {.pictures = at::empty({size, view.channels, view.side, view.side}, at::TensorOptions(at::kFloat)),
          .labels = at::empty({size}, integers),
          .indices = at::empty({size}, integers)};
}

float* picture_at(const Batch& batch, int64_t i) {
  return batch.pictures.mutable_data_ptr<float>() + i * batch.pictures.stride(0);
}

}  // namespace

struct Loader::Implementation {
  // A batch that is being made: workers take chunks of it.
  struct Job {
    int64_t step = 0;
    uint64_t epoch_seed = 0;
    Batch batch;
    int64_t next = 0, done = 0;  // pictures
    std::exception_ptr error;
  };

  std::shared_ptr<const Dataset> dataset;
  PictureView view;
  bool hflip;
  int64_t batch_size, batches, worker_count;
  uint64_t seed;

  std::mutex mutex;
  std::condition_variable work, finished;
  std::deque<std::shared_ptr<Job>> jobs;  // in order of steps
  int64_t order_epoch = -1;
  at::Tensor order;  // (N) int64 of order_epoch
  bool ending = false;
  std::vector<std::thread> workers;

  Implementation(std::shared_ptr<const Dataset> pictures, const DataParts& parts, const DataOptions& options,
                 int64_t size, int64_t seed_given)
      : dataset(std::move(pictures)),
        view(parts, options, true),
        hflip(options.hflip),
        batch_size(size),
        batches(dataset->size() / size),
        worker_count(options.workers),
        seed(static_cast<uint64_t>(seed_given)) {}

  ~Implementation() {
    {
      const std::lock_guard lock(mutex);
      ending = true;
    }
    work.notify_all();
    for (auto& worker : workers) worker.join();
  }

  std::shared_ptr<Job> make_job(int64_t step) {
    const int64_t epoch = step / batches;
    auto job = std::make_shared<Job>();
    job->step = step;
    job->epoch_seed = derived_seed(seed, static_cast<uint64_t>(epoch));
    job->batch = empty_batch(view, batch_size);
    if (epoch != order_epoch) {
      auto generator = make_generator(job->epoch_seed);
      order = at::randperm(dataset->size(), generator, at::TensorOptions(at::kLong));
      order_epoch = epoch;
    }
    job->batch.indices.copy_(order.narrow(0, step % batches * batch_size, batch_size));
    return job;
  }

  // Picture i of the batch: everything random about it comes from the epoch and its index.
  // @returns whether it took the place of one that cannot be decoded
  bool make_picture(const Job& job, int64_t i) const {
    const int64_t index = job.batch.indices.const_data_ptr<int64_t>()[i];
    auto generator = make_generator(derived_seed(job.epoch_seed, static_cast<uint64_t>(index)));
    const bool mirror = hflip && at::rand({1}, generator).item<float>() < 0.5f;
    write_network_range(view.cut(*dataset, index, mirror, &generator), picture_at(job.batch, i));
    job.batch.labels.mutable_data_ptr<int64_t>()[i] = dataset->label(index);
    return dataset->is_replaced(index);
  }

  void make_chunk(Job& job, int64_t begin, int64_t end) {
    std::exception_ptr error;
    int64_t replaced = 0;
    try {
      for (int64_t i = begin; i < end; ++i) replaced += make_picture(job, i) ? 1 : 0;
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    if (error && !job.error) job.error = error;
    job.batch.replaced += replaced;
    job.done += end - begin;
    if (job.done == batch_size) finished.notify_all();
  }

  void run_worker() {
    for (;;) {
      std::shared_ptr<Job> job;
      int64_t begin = 0;
      {
        std::unique_lock lock(mutex);
        work.wait(lock, [&] { return ending || (job = unfinished()); });
        if (ending) return;
        begin = job->next;
        job->next = std::min(batch_size, begin + kChunk);
      }
      make_chunk(*job, begin, std::min(batch_size, begin + kChunk));
    }
  }

  std::shared_ptr<Job> unfinished() const {
    for (const auto& job : jobs) {
      if (job->next < batch_size) return job;
    }
    return nullptr;
  }

  Batch take(int64_t step) {
    if (worker_count == 0) {
      const auto job = make_job(step);
      for (int64_t i = 0; i < batch_size; ++i) job->batch.replaced += make_picture(*job, i) ? 1 : 0;
      return job->batch;
    }
    std::unique_lock lock(mutex);
    while (static_cast<int64_t>(workers.size()) < worker_count) workers.emplace_back([this] { run_worker(); });
    while (!jobs.empty() && jobs.front()->step != step) jobs.pop_front();  // another step than the next one
    while (static_cast<int64_t>(jobs.size()) <= kAhead) {
      jobs.push_back(make_job(step + static_cast<int64_t>(jobs.size())));
    }
    work.notify_all();
    const auto job = jobs.front();
    finished.wait(lock, [&] { return job->done == batch_size; });
    jobs.pop_front();
    if (job->error) std::rethrow_exception(job->error);
    return job->batch;
  }
};

Loader::Loader(std::shared_ptr<const Dataset> dataset, const DataParts& parts, const DataOptions& options,
               int64_t batch, int64_t seed) {
  if (batch < 1 || dataset->size() < batch) {
    throw usage({.where = "--batch",
                 .what = "does not fit the training pictures",
                 .expected = fmt::format("1 to {}", dataset->size()),
                 .got = std::to_string(batch)});
  }
  implementation_ = std::make_unique<Implementation>(std::move(dataset), parts, options, batch, seed);
}

Loader::~Loader() = default;

int64_t Loader::batches_per_epoch() const { return implementation_->batches; }

Batch Loader::batch(int64_t step) { return implementation_->take(step); }

Batch load_in_order(const Dataset& dataset, const DataParts& parts, const DataOptions& options, int64_t first,
                    int64_t count) {
  TORCH_CHECK(first >= 0 && count >= 0 && first + count <= dataset.size(), "pictures outside the data set");
  const PictureView view(parts, options, false);
  auto batch = empty_batch(view, count);
  batch.indices.copy_(at::arange(first, first + count, at::TensorOptions(at::kLong)));
  const int64_t threads = std::clamp<int64_t>(options.workers, 1, (count + kChunk - 1) / kChunk + 1);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(threads));
  const auto make = [&](int64_t thread) {
    try {
      for (int64_t i = thread; i < count; i += threads) {
        write_network_range(view.cut(dataset, first + i, false, nullptr), picture_at(batch, i));
        batch.labels.mutable_data_ptr<int64_t>()[i] = dataset.label(first + i);
      }
    } catch (...) {
      errors[static_cast<size_t>(thread)] = std::current_exception();
    }
  };
  std::vector<std::thread> team;
  for (int64_t t = 1; t < threads; ++t) team.emplace_back(make, t);
  make(0);
  for (auto& member : team) member.join();
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return batch;
}

at::Tensor load_training_view(const Dataset& dataset, const DataParts& parts, const DataOptions& options, int64_t index,
                              uint64_t view_seed, bool mirror) {
  const PictureView view(parts, options, true);
  auto batch = empty_batch(view, 1);
  auto generator = make_generator(view_seed);
  write_network_range(view.cut(dataset, index, mirror, &generator), picture_at(batch, 0));
  return batch.pictures[0];
}

}  // namespace nextscale
