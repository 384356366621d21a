#include "nextscale/cli/npz_samples.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/random.h"
#include "nextscale/cli/targets.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/npz.h"

namespace nextscale::cli {
namespace {

constexpr uint64_t kOrderSeed = 0;  // fixed, so that the order is that of every other set of this size

std::vector<int64_t> order_of(int64_t count, bool keep_order) {
  if (!keep_order) return npz_order(count);
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

}  // namespace

std::vector<int64_t> npz_order(int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  auto generator = make_generator(kOrderSeed);
  const auto drawn = at::randperm(count, generator, at::TensorOptions().dtype(at::kLong));
  std::copy_n(drawn.const_data_ptr<int64_t>(), order.size(), order.begin());
  return order;
}

void write_npz_of_pictures(const std::filesystem::path& npz, const std::filesystem::path& folder,
                           const std::vector<int64_t>& labels, bool keep_order, bool quiet) {
  const auto count = static_cast<int64_t>(labels.size());
  const auto order = order_of(count, keep_order);
  const auto picture = [&](int64_t i) {
    const auto path = folder / picture_name(i, labels[static_cast<size_t>(i)]);
    return read_picture(path, 3).contiguous();  // (H, W, 3)
  };
  const auto bytes_of = [](const at::Tensor& tensor) {
    return std::span(static_cast<const std::byte*>(tensor.const_data_ptr()), static_cast<size_t>(tensor.nbytes()));
  };
  const auto size = count > 0 ? picture(0).sizes().vec() : std::vector<int64_t>{0, 0, 3};

  NpzWriter writer(npz);
  writer.begin("arr_0", Dtype::u8, {count, size[0], size[1], size[2]});
  Progress progress("npz", count, "pictures", quiet);
  std::vector<int64_t> ordered;
  for (const int64_t i : order) {
    writer.write(bytes_of(picture(i)));
    ordered.push_back(labels[static_cast<size_t>(i)]);
    progress.update(static_cast<int64_t>(ordered.size()));
  }
  progress.finish();
  writer.begin("arr_1", Dtype::i64, {count});
  writer.write(std::as_bytes(std::span(ordered)));
  writer.finish();
}

}  // namespace nextscale::cli
