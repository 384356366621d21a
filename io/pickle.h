#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace nextscale {

/// Limits against hostile pickles; a checkpoint of a large model has some ten thousand values.
inline constexpr size_t kPickleBytesLimit = size_t{256} << 20;
inline constexpr size_t kPickleNodeLimit = 5'000'000;
inline constexpr size_t kPickleIntegerLimit = 255;  ///< bytes of one integer

/// Position of a value in PickleTree::nodes.
using PickleId = uint32_t;

enum class PickleKind : uint8_t {
  none,
  boolean,
  integer,
  big_integer,  ///< beyond 64 bits: decimal text
  real,
  text,   ///< valid UTF-8
  bytes,  ///< bytes, and Python 2's strings that are no UTF-8
  list,   ///< sets too
  tuple,
  dict,        ///< parts: key, value, key, value, … as they were set
  global,      ///< text: "module.name" of the allow-list
  object,      ///< parts: what is called (a global), its arguments (a tuple), its state if one is set (BUILD);
               ///< nothing was called or set
  persistent,  ///< parts: the identifier of something that lies outside the pickle
};
std::string_view kind_name(PickleKind kind);  ///< for errors: "an integer"

struct PickleNode {
  PickleKind kind = PickleKind::none;
  std::variant<std::monostate, bool, int64_t, double, std::string_view, std::vector<PickleId>> value;

  bool boolean() const { return std::get<bool>(value); }
  int64_t integer() const { return std::get<int64_t>(value); }
  double real() const { return std::get<double>(value); }
  std::string_view text() const { return std::get<std::string_view>(value); }  ///< text, bytes, big_integer, global
  const std::vector<PickleId>& parts() const { return std::get<std::vector<PickleId>>(value); }
};

/// The values of one pickle. They name each other by position, so a value may stand in several places (and, in a
/// hostile file, in itself), and neither depth nor cycles matter when the tree goes. Texts point into the pickle.
struct PickleTree {
  std::deque<PickleNode> nodes;
  PickleId root = 0;
  size_t bytes = 0;              ///< length of the pickle; others may follow it
  std::deque<std::string> made;  ///< texts that do not stand in the pickle as they are

  const PickleNode& at(PickleId id) const { return nodes[id]; }
};

/// Reads one pickle of protocol 2 to 5 and runs nothing of it: a global must be on the allow-list and stays a name, a
/// call becomes an `object`. collections.OrderedDict becomes a dict, builtins.set a list; the state that is set on a
/// dict (BUILD, the state dict's _metadata) is left out.
/// @param where    names the pickle in errors
/// @param allowed  says whether "module.name" may occur
/// @throws Error failure naming the byte: cut off, an unknown operation, a global that is not allowed, limits
PickleTree parse_pickle(std::span<const std::byte> bytes, const std::string& where, bool (*allowed)(std::string_view));

}  // namespace nextscale
