#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace nextscale {

/// "7 Sneaker", "class 7" where there are no names or they are the numbers, "no label" for -1.
std::string label_text(int64_t label, const std::vector<std::string>& class_names);

/// One row a class with its name on the left, classes in ascending order, pictures of a class in the order given. Where
/// no class has two pictures: rows of equal length with the name below each picture.
/// @param pictures (N, C, H, W) float in [0, 1] or uint8
/// @param labels   N of them, -1 for none
/// @returns (height, width, 3) uint8
at::Tensor class_grid(const at::Tensor& pictures, const std::vector<int64_t>& labels,
                      const std::vector<std::string>& class_names);

/// How pictures come about: one row a picture, one column a scale.
/// @param after_scale K tensors (N, C, H, W), the pictures after each scale
/// @param scale_names K texts above the columns, e.g. "3x3"
/// @returns (height, width, 3) uint8
at::Tensor scale_strip(const std::vector<at::Tensor>& after_scale, const std::vector<std::string>& scale_names,
                       const std::vector<int64_t>& labels, const std::vector<std::string>& class_names);

}  // namespace nextscale
