#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <torch/types.h>

namespace nextscale {

/// Means of numbers between two reports, summed on their device: no synchronisation until take(). Values that are not
/// finite are left out; a mean of none is NaN.
class RunningMeans {
 public:
  /// @param value scalar
  void add(const std::string& name, const torch::Tensor& value);
  /// The means so far, and starts anew.
  std::map<std::string, double> take();

 private:
  struct Sum {
    torch::Tensor sum, count;  // float64 scalars on the device
  };
  std::map<std::string, Sum> sums_;
};

}  // namespace nextscale
