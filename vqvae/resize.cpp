#include "nextscale/vqvae/resize.h"

#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/upsample_bicubic2d.h>

namespace nextscale {
namespace {

// Row i of the identity, seen as a map, is the unit at position i.
at::Tensor unit_maps(const MapSize& from) {
  const int64_t area = from.height * from.width;
  return at::eye(area).view({area, 1, from.height, from.width});
}

}  // namespace

at::Tensor area_resize(const at::Tensor& x, const MapSize& to) {
  return at::adaptive_avg_pool2d(x, {to.height, to.width});
}

at::Tensor bicubic_resize(const at::Tensor& x, const MapSize& to) {
  return at::upsample_bicubic2d(x, {to.height, to.width}, /*align_corners=*/false);
}

at::Tensor area_matrix(const MapSize& from, const MapSize& to) {
  return area_resize(unit_maps(from), to).flatten(1).contiguous();  // (H W, height width)
}

at::Tensor bicubic_matrix(const MapSize& from, const MapSize& to) {
  return bicubic_resize(unit_maps(from), to).flatten(1).contiguous();
}

}  // namespace nextscale
