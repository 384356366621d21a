#include "nextscale/base/scales.h"

#include <algorithm>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

// Far above any published pyramid (1024 px ends at 64); keeps L * L and element counts inside int64.
constexpr int64_t kLargestSide = 4096;

std::vector<MapSize> squares(const std::vector<int64_t>& sides) {
  std::vector<MapSize> maps;
  maps.reserve(sides.size());
  for (const int64_t side : sides) maps.push_back({side, side});
  return maps;
}

std::string map_text(const MapSize& map) {
  if (map.height == map.width) return std::to_string(map.height);
  return std::to_string(map.height) + "x" + std::to_string(map.width);
}

std::string maps_text(const std::vector<MapSize>& maps) {
  std::string text;
  for (const auto& map : maps) text += (text.empty() ? "" : ",") + map_text(map);
  return text;
}

}  // namespace

Scales::Scales(const std::vector<int64_t>& sides) : Scales(squares(sides)) {}

Scales::Scales(std::vector<MapSize> maps) : maps_(std::move(maps)) {
  const ErrorParts rule{.where = "sides", .what = "not a pyramid", .expected = "1 to 4096 each, never shrinking"};
  if (maps_.empty()) throw usage({rule.where, rule.what, rule.expected, "none"});
  begins_.assign(1, 0);
  MapSize previous{1, 1};
  for (const auto& map : maps_) {
    const bool fits = map.height >= previous.height && map.width >= previous.width && map.height <= kLargestSide &&
                      map.width <= kLargestSide;
    if (!fits) throw usage({rule.where, rule.what, rule.expected, maps_text(maps_)});
    begins_.push_back(begins_.back() + map.height * map.width);
    previous = map;
  }
}

bool Scales::is_square() const {
  return std::all_of(maps_.begin(), maps_.end(), [](const MapSize& map) { return map.height == map.width; });
}

std::vector<int64_t> Scales::sides() const {
  std::vector<int64_t> sides;
  for (const auto& map : maps_) {
    if (map.height != map.width) throw failure({.where = "sides", .what = "map is not square", .got = text()});
    sides.push_back(map.height);
  }
  return sides;
}

std::string Scales::text() const { return maps_text(maps_); }

}  // namespace nextscale
