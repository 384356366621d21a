#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nextscale/base/error.h"
#include "nextscale/io/pickle.h"

namespace nextscale {

/// Stack, marks and memo of one pickle while it is read (io/pickle.cpp decodes the operations). All functions throw
/// Error failure naming the pickle and the byte where the operation stands.
class PickleMachine {
 public:
  using Ids = std::vector<PickleId>;
  using Value = decltype(PickleNode::value);

  PickleMachine(std::string where, bool (*allowed)(std::string_view)) : where_(std::move(where)), allowed_(allowed) {}

  void begin_operation(size_t at) { operation_ = at; }
  Error wrong(const std::string& what, std::string expected = {}, std::string got = {}) const;

  // values
  void push(PickleKind kind, Value value = {});
  /// @param otherwise  what it is if it is no UTF-8; `text`: then it is refused
  void push_text(std::string_view text, PickleKind otherwise);
  void push_integer(std::span<const std::byte> little_endian);
  void push_integer_line(std::string_view text);
  void push_global(std::string_view module, std::string_view name);

  // the stack
  void mark() { marks_.push_back(stack_.size()); }
  void drop();
  void duplicate() { stack_.push_back(top()); }
  PickleId top() const;
  PickleId pop();
  Ids pop_last(size_t count);
  Ids pop_to_mark();  ///< all above the newest mark, which goes
  void extend_top(PickleKind kind, const Ids& ids);

  // the memo
  void put(uint64_t index);
  void put_next() { put(puts_); }
  void get(uint64_t index);

  // what would be run
  void name_from_stack();
  void reduce();
  void build();

  /// @param bytes length of the pickle
  PickleTree finish(size_t bytes);

 private:
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleNode& node(PickleId id, PickleKind kind);
  Ids values_for(const std::vector<PickleId>& arguments, bool pairs);

  std::string where_;
  bool (*allowed_)(std::string_view);
  size_t operation_ = 0;
  PickleTree tree_;
  Ids stack_;
  std::vector<size_t> marks_;
  std::vector<std::optional<PickleId>> memo_;
  uint64_t puts_ = 0;
  size_t copied_ = 0;  // values that stand in a second container
};

}  // namespace nextscale
