#include "nextscale/evaluate/statistics_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <string>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

/// float64, of memory of its own. @throws Error failure for another type or
/// values that are not finite
at::Tensor numbers(NpzFile& npz, const std::string& name, const std::string& where) {
  const auto& array = npz.array(name);
  const auto here = where + ": " + name;
  if (array.dtype != Dtype::f64 && array.dtype != Dtype::f32) {
    throw failure({here, "has another type", "float64 or float32", std::string(numpy_name(array.dtype))});
  }
  auto values = at::empty(array.shape, array.dtype == Dtype::f64 ? at::kDouble : at::kFloat);
  std::memcpy(values.mutable_data_ptr(), array.data.bytes.data(), array.data.bytes.size());
  values = values.to(at::kDouble);
  if (!values.isfinite().all().item<bool>()) {
    const bool nan = values.isnan().any().item<bool>();
    throw failure({.where = here, .what = nan ? "holds NaN" : "holds Inf", .expected = "finite numbers", .got = {}});
  }
  return values;
}

FeatureStatistics moments(NpzFile& npz, const std::string& mean_name, const std::string& covariance_name, int64_t count,
                          const std::string& where) {
  const auto mean = numbers(npz, mean_name, where);
  if (!npz.has(covariance_name)) {
    throw failure({where, mean_name + " without " + covariance_name, "both", {}});
  }
  const auto covariance = numbers(npz, covariance_name, where);
  const auto here = where + ": " + covariance_name;
  if (mean.dim() != 1 || mean.size(0) == 0) {
    throw failure({where + ": " + mean_name, "is no mean", "(D)", shape_text(mean.sizes())});
  }
  if (covariance.dim() != 2 || covariance.size(0) != covariance.size(1)) {
    throw failure({here, "is not square", "(D, D)", shape_text(covariance.sizes())});
  }
  if (covariance.size(0) != mean.size(0)) {
    throw failure({here, "does not fit " + mean_name, fmt::format("({}, {})", mean.size(0), mean.size(0)),
                   shape_text(covariance.sizes())});
  }
  const double scale = covariance.abs().max().item<double>();
  const double uneven = (covariance - covariance.t()).abs().max().item<double>();
  // float32 files are symmetric to their digits only
  if (uneven > 1e-5 * scale) throw failure({here, "is not symmetric", {}, fmt::format("{:.3g} apart", uneven)});
  const double lowest = covariance.diagonal().min().item<double>();
  if (lowest < -1e-6 * scale) {
    throw failure({here, "has a negative variance on its diagonal", "at least 0", fmt::format("{:.3g}", lowest)});
  }
  const double eigen = at::linalg_eigvalsh(covariance).min().item<double>();
  if (eigen < -1e-4 * scale * static_cast<double>(mean.size(0))) {
    throw failure({here, "has a negative eigenvalue", "at least 0", fmt::format("{:.3g}", eigen)});
  }
  return FeatureStatistics::from_moments(mean, (covariance + covariance.t()) / 2, count);
}

int64_t stored_count(NpzFile& npz, const std::string& where) {
  if (!npz.has("count")) return 0;
  const auto& array = npz.array("count");
  int64_t count = 0;
  if (array.dtype != Dtype::i64 || array.data.bytes.size() != sizeof(count)) return 0;
  std::memcpy(&count, array.data.bytes.data(), sizeof(count));
  if (count < 2) throw failure({where + ": count", "is no number of pictures", "at least 2", std::to_string(count)});
  return count;
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), static_cast<size_t>(tensor.nbytes())};
}

}  // namespace

bool holds_statistics(const NpzFile& npz) { return npz.has("mu") || npz.has("sigma"); }

StoredStatistics read_statistics(NpzFile& npz, const std::string& where) {
  StoredStatistics stored;
  stored.count = stored_count(npz, where);
  stored.features = moments(npz, "mu", "sigma", stored.count, where);
  if (npz.has("mu_s") || npz.has("sigma_s")) {
    stored.spatial = moments(npz, "mu_s", "sigma_s", stored.count, where);
  }
  return stored;
}

void write_statistics(const std::filesystem::path& path, const FeatureStatistics& features,
                      const FeatureStatistics* spatial, const std::string& made_with) {
  NpzWriter writer(path);
  const auto write = [&](const std::string& name, const at::Tensor& values) {
    const auto whole = values.contiguous();
    writer.begin(name, Dtype::f64, whole.sizes().vec());
    writer.write(bytes_of(whole));
  };
  write("mu", features.mean());
  write("sigma", features.covariance());
  if (spatial != nullptr) {
    write("mu_s", spatial->mean());
    write("sigma_s", spatial->covariance());
  }
  const int64_t count = features.count();
  writer.begin("count", Dtype::i64, {});
  writer.write(std::as_bytes(std::span(&count, 1)));
  writer.begin("made_with", Dtype::u8, {static_cast<int64_t>(made_with.size())});
  writer.write(as_bytes(made_with));
  writer.finish();
}

}  // namespace nextscale
