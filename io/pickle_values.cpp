#include "nextscale/io/pickle_values.h"

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/pickle_text.h"
#include "nextscale/io/safetensors.h"

namespace nextscale {

std::string_view pickle_called(const PickleTree& tree, PickleId id) {
  const auto& node = tree.at(id);
  return node.kind == PickleKind::object ? tree.at(node.parts()[0]).text() : std::string_view();
}

const std::vector<PickleId>& pickle_arguments(const PickleTree& tree, PickleId id) {
  return tree.at(tree.at(id).parts()[1]).parts();
}

int64_t pickle_integer(const PickleTree& tree, PickleId id, const char* what, const std::string& here) {
  const auto& node = tree.at(id);
  if (node.kind == PickleKind::big_integer) {
    throw failure({here, fmt::format("{} does not fit 64 bits", what), {}, printable(node.text(), 40)});
  }
  if (node.kind != PickleKind::integer) {
    throw failure({here, fmt::format("{} is damaged", what), "an integer", std::string(kind_name(node.kind))});
  }
  if (node.integer() < 0) {
    throw failure({here, fmt::format("{} may not be negative", what), {}, fmt::format("{}", node.integer())});
  }
  return node.integer();
}

std::vector<int64_t> pickle_integers(const PickleTree& tree, PickleId id, const char* what, const std::string& here) {
  const auto& node = tree.at(id);
  if (node.kind != PickleKind::tuple && node.kind != PickleKind::list) {
    throw failure({here, fmt::format("{} is damaged", what), "a tuple", std::string(kind_name(node.kind))});
  }
  if (node.parts().size() > kSafetensorsDimensionLimit) {
    throw failure({here, fmt::format("{} has too many dimensions", what),
                   fmt::format("at most {}", kSafetensorsDimensionLimit), fmt::format("{}", node.parts().size())});
  }
  std::vector<int64_t> values;
  for (const auto part : node.parts()) values.push_back(pickle_integer(tree, part, what, here));
  return values;
}

}  // namespace nextscale
