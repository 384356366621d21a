#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nextscale {

/// Height and width of one token map.
struct MapSize {
  int64_t height = 1;
  int64_t width = 1;
  bool operator==(const MapSize&) const = default;
};

/// The pyramid's geometry: K token maps r_0 (coarsest) … r_{K-1}, joined in order into one sequence of L tokens
/// (VAR paper, section 3.2; reference `patch_nums`, `begin_ends`).
class Scales {
 public:
  /// Square maps. @throws Error if empty, a side is below 1, or a side is smaller than the one before.
  explicit Scales(const std::vector<int64_t>& sides);
  /// Maps of any shape, same rules per dimension.
  explicit Scales(std::vector<MapSize> maps);

  int64_t count() const { return static_cast<int64_t>(maps_.size()); }  ///< K
  const MapSize& map(int64_t k) const { return maps_.at(static_cast<size_t>(k)); }
  const MapSize& last() const { return maps_.back(); }  ///< the feature map's size
  const std::vector<MapSize>& maps() const { return maps_; }
  int64_t area(int64_t k) const { return map(k).height * map(k).width; }  ///< l, tokens of scale k
  int64_t begin(int64_t k) const { return begins_.at(static_cast<size_t>(k)); }
  int64_t end(int64_t k) const { return begins_.at(static_cast<size_t>(k) + 1); }
  int64_t length() const { return begins_.back(); }  ///< L
  bool is_last(int64_t k) const { return k == count() - 1; }
  bool is_square() const;
  /// Sides of square maps. @throws Error if a map is not square.
  std::vector<int64_t> sides() const;
  /// "1,2,3,4" or "1x1,2x3"
  std::string text() const;

  bool operator==(const Scales& other) const { return maps_ == other.maps_; }

 private:
  std::vector<MapSize> maps_;
  std::vector<int64_t> begins_;  // K + 1 values, the last is L
};

}  // namespace nextscale
