#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nextscale/base/state_dict.h"

namespace nextscale {

/// What names and shapes say of the model that the weights belong to; for files that carry no config.
class WeightShapes {
 public:
  /// @param weights kept by reference @param where names the file in errors
  WeightShapes(const NamedTensors& weights, std::string where);

  bool has(const std::string& name) const { return tensors_.count(name) > 0; }
  const at::Tensor& tensor(const std::string& name) const { return *tensors_.at(name); }
  /// Size along one dimension. @throws Error failure if the entry is missing or has another number of dimensions
  int64_t size(const std::string& name, int64_t dimensions, int64_t dimension) const;
  /// Numbered children: n where names begin with PREFIX0. … PREFIX(n-1).
  int64_t children(std::string_view prefix) const;
  /// For messages: some of the names.
  std::string examples() const;
  const std::string& where() const { return where_; }

 private:
  std::map<std::string, const at::Tensor*, std::less<>> tensors_;
  std::string where_;
};

/// Sides of the token maps in files without a config: the published ones of 256 and of 512 pixels.
const std::vector<int64_t>& published_sides_256();
const std::vector<int64_t>& published_sides_512();

}  // namespace nextscale
