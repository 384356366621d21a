#include "nextscale/io/numpy_pickle.h"

#include <algorithm>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/pickle_text.h"
#include "nextscale/io/pickle_values.h"

namespace nextscale {
namespace {

constexpr std::string_view kReconstruct = "numpy.core.multiarray._reconstruct", kArray = "numpy.ndarray",
                           kType = "numpy.dtype";
constexpr int64_t kStateVersion = 1;  // of an array

bool is_numpy_name(std::string_view name) { return name == kReconstruct || name == kArray || name == kType; }

class Arrays {
 public:
  Arrays(const PickleTree& tree, const SharedBytes& file, const std::string& where)
      : tree_(tree), file_(file), where_(where), bytes_left_(file.bytes.size()) {}

  std::vector<NumpyPickleEntry> all() {
    const auto& dict = node(tree_.root, PickleKind::dict, "not a dict of arrays", where_).parts();
    for (size_t i = 0; i < dict.size(); i += 2) {
      const auto key = node(dict[i], PickleKind::text, "dict has another key", where_).text();
      if (key.size() > kNumpyPickleNameLimit) {
        throw failure({where_, "name is too long", fmt::format("at most {} bytes", kNumpyPickleNameLimit),
                       fmt::format("{} bytes", key.size())});
      }
      const auto& value = tree_.at(dict[i + 1]);
      if (value.kind != PickleKind::list && value.kind != PickleKind::tuple) {
        add(std::string(key), dict[i + 1]);
        continue;
      }
      for (size_t at = 0; at < value.parts().size(); ++at) add(fmt::format("{}/{}", key, at), value.parts()[at]);
    }
    return std::move(entries_);
  }

 private:
  const PickleNode& node(PickleId id, PickleKind kind, const char* what, const std::string& here) const {
    const auto& found = tree_.at(id);
    if (found.kind == kind) return found;
    throw failure({here, what, std::string(kind_name(kind)), std::string(kind_name(found.kind))});
  }

  void add(std::string name, PickleId id) {
    const auto here = where_ + ": " + printable(name, kNumpyPickleNameLimit);
    if (entries_.size() >= kNumpyPickleArrayLimit) throw failure({here, "file holds too many arrays", {}, {}});
    if (!names_.insert(name).second) throw failure({here, "two arrays have this name", {}, {}});
    entries_.push_back({std::move(name), array(id, here)});
  }

  /// _reconstruct(ndarray, (0,), b'b') makes an empty array; (version, shape, dtype, is it in Fortran's order, values)
  /// is the state that fills it.
  NpyArray array(PickleId id, const std::string& here) {
    if (pickle_called(tree_, id) != kReconstruct || !makes_array(id)) {
      throw failure({here, "not an array", "numpy.ndarray", std::string(kind_name(tree_.at(id).kind))});
    }
    const auto& state = state_of(id, 5, "array", here);
    if (const auto version = pickle_integer(tree_, state[0], "version", here); version != kStateVersion) {
      throw failure({here, "unknown version of an array", fmt::format("{}", kStateVersion), std::to_string(version)});
    }
    NpyHeader header{.descr = descr(state[2], here), .shape = pickle_integers(tree_, state[1], "shape", here)};
    header.fortran_order = node(state[3], PickleKind::boolean, "order is damaged", here).boolean();
    const auto& values = tree_.at(state[4]);
    if (values.kind != PickleKind::bytes && values.kind != PickleKind::text) {  // Python 2's may happen to be UTF-8
      throw failure({here, "values are damaged", "bytes", std::string(kind_name(values.kind))});
    }
    const auto bytes = as_bytes(values.text());
    // the same values may be given again and again, and each copy put in order
    if (bytes.size() > bytes_left_) throw failure({here, "arrays are larger than their file", {}, {}});
    bytes_left_ -= bytes.size();
    return npy_array(std::move(header), {file_.owner, bytes}, here);
  }

  bool makes_array(PickleId id) const {
    const auto& given = pickle_arguments(tree_, id);
    return !given.empty() && tree_.at(given[0]).kind == PickleKind::global && tree_.at(given[0]).text() == kArray;
  }

  /// numpy.dtype('f4', …) with state (version, byte order, subtype, names, fields, …) -> "<f4"
  std::string descr(PickleId id, const std::string& here) const {
    if (pickle_called(tree_, id) != kType || pickle_arguments(tree_, id).empty()) {
      throw failure({here, "type is damaged", "numpy.dtype", std::string(kind_name(tree_.at(id).kind))});
    }
    const auto& state = state_of(id, 5, "type", here);
    const auto is_none = [this](PickleId part) { return tree_.at(part).kind == PickleKind::none; };
    if (!std::all_of(state.begin() + 2, state.begin() + 5, is_none)) {
      throw failure({here, "structured types are not read", "numbers", {}});
    }
    const auto code = node(pickle_arguments(tree_, id)[0], PickleKind::text, "type is damaged", here).text();
    const auto order = node(state[1], PickleKind::text, "byte order is damaged", here).text();
    return printable(order, 8) + printable(code, 32);
  }

  const std::vector<PickleId>& state_of(PickleId object, size_t fewest, const char* what,
                                        const std::string& here) const {
    const auto& parts = tree_.at(object).parts();
    const auto* state = parts.size() > 2 ? &tree_.at(parts[2]) : nullptr;
    if (state == nullptr || state->kind != PickleKind::tuple || state->parts().size() < fewest) {
      throw failure({here, fmt::format("{} is damaged", what), fmt::format("a state of {} values", fewest),
                     state == nullptr ? "none" : std::string(kind_name(state->kind))});
    }
    return state->parts();
  }

  const PickleTree& tree_;
  const SharedBytes& file_;
  const std::string& where_;
  size_t bytes_left_;
  std::set<std::string> names_;
  std::vector<NumpyPickleEntry> entries_;
};

}  // namespace

std::vector<NumpyPickleEntry> parse_numpy_pickle(const SharedBytes& file, const std::string& where) {
  const auto tree = parse_pickle(file.bytes, where, is_numpy_name);
  if (tree.bytes != file.bytes.size()) {
    throw failure({where, "bytes follow the pickle", fmt::format("{} bytes", tree.bytes),
                   fmt::format("{} bytes", file.bytes.size())});
  }
  return Arrays(tree, file, where).all();
}

}  // namespace nextscale
