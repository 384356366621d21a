#include "nextscale/base/weight_shapes.h"

#include <fmt/format.h>

#include "nextscale/base/error.h"

namespace nextscale {

WeightShapes::WeightShapes(const NamedTensors& weights, std::string where) : where_(std::move(where)) {
  for (const auto& [name, tensor] : weights) tensors_.emplace(name, &tensor);
}

int64_t WeightShapes::size(const std::string& name, int64_t dimensions, int64_t dimension) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw failure({.where = where_ + ": " + name, .what = "is missing", .expected = {}, .got = examples()});
  }
  if (found->second->dim() != dimensions) {
    throw failure({where_ + ": " + name, "wrong number of dimensions", std::to_string(dimensions),
                   std::to_string(found->second->dim())});
  }
  return found->second->size(dimension);
}

int64_t WeightShapes::children(std::string_view prefix) const {
  int64_t count = 0;
  while (true) {
    const auto start = fmt::format("{}{}.", prefix, count);
    const auto at = tensors_.lower_bound(start);
    if (at == tensors_.end() || at->first.rfind(start, 0) != 0) return count;
    ++count;
  }
}

std::string WeightShapes::examples() const {
  if (tensors_.empty()) return "no tensor";
  const auto& first = tensors_.begin()->first;
  return tensors_.size() == 1
             ? first
             : fmt::format("{} entries from {} to {}", tensors_.size(), first, tensors_.rbegin()->first);
}

const std::vector<int64_t>& published_sides_256() {
  static const std::vector<int64_t> sides = {1, 2, 3, 4, 5, 6, 8, 10, 13, 16};
  return sides;
}

const std::vector<int64_t>& published_sides_512() {
  static const std::vector<int64_t> sides = {1, 2, 3, 4, 6, 9, 13, 18, 24, 32};
  return sides;
}

}  // namespace nextscale
