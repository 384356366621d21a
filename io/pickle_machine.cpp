#include "nextscale/io/pickle_machine.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "nextscale/io/pickle_text.h"

namespace nextscale {
namespace {

constexpr size_t kGlobalNameLimit = 1000;  // bytes of a module or a class name
constexpr std::string_view kOrderedDict = "collections.OrderedDict";

bool is_set(std::string_view name) { return name == "builtins.set" || name == "__builtin__.set"; }

}  // namespace

Error PickleMachine::wrong(const std::string& what, std::string expected, std::string got) const {
  return failure({where_, fmt::format("{} at byte {}", what, operation_), std::move(expected), std::move(got)});
}

// --- values ----------------------------------------------------------------------------------------------------------

void PickleMachine::push(PickleKind kind, Value value) {
  if (tree_.nodes.size() >= kPickleNodeLimit) throw wrong("pickle holds too many values");
  stack_.push_back(static_cast<PickleId>(tree_.nodes.size()));
  tree_.nodes.push_back({kind, std::move(value)});
}

void PickleMachine::push_text(std::string_view text, PickleKind otherwise) {
  const bool utf8 = is_utf8(text);
  if (!utf8 && otherwise == PickleKind::text) throw wrong("pickle holds a text that is no UTF-8");
  push(utf8 ? PickleKind::text : otherwise, text);
}

void PickleMachine::push_integer(std::span<const std::byte> little_endian) {
  if (little_endian.size() > sizeof(int64_t)) {
    if (little_endian.size() > kPickleIntegerLimit) throw wrong("pickle holds an integer that is too long");
    push(PickleKind::big_integer, tree_.made.emplace_back(decimal_text(little_endian)));
    return;
  }
  uint64_t value = 0;
  for (size_t i = little_endian.size(); i-- > 0;) value = (value << 8) | static_cast<uint64_t>(little_endian[i]);
  const auto bits = 8 * little_endian.size();
  if (bits > 0 && bits < 64 && (value >> (bits - 1)) != 0) value |= ~uint64_t{0} << bits;  // the sign
  push(PickleKind::integer, static_cast<int64_t>(value));
}

void PickleMachine::push_integer_line(std::string_view text) {
  if (text == "00" || text == "01") return push(PickleKind::boolean, text == "01");
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) throw wrong("pickle holds a damaged integer");
  push(PickleKind::integer, value);
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
  if (module.size() > kGlobalNameLimit || name.size() > kGlobalNameLimit)
    throw wrong("pickle holds a name that is too long");
  auto full = fmt::format("{}.{}", module, name);
  if (full != kOrderedDict && !is_set(full) && !allowed_(full)) {
    throw wrong("pickle asks for code that is not run", "tensors and plain values", printable(full, 200));
  }
  push(PickleKind::global, tree_.made.emplace_back(std::move(full)));
}

// --- stack -----------------------------------------------------------------------------------------------------------

void PickleMachine::drop() {
  if (!marks_.empty() && marks_.back() == stack_.size()) {
    marks_.pop_back();
  } else {
    pop();
  }
}

/// Values below the newest mark belong to what was begun before it.
PickleId PickleMachine::top() const {
  if (stack_.size() <= floor()) throw wrong("pickle takes a value that is not there");
  return stack_.back();
}

PickleId PickleMachine::pop() {
  const auto id = top();
  stack_.pop_back();
  return id;
}

PickleMachine::Ids PickleMachine::pop_last(size_t count) {
  if (stack_.size() - floor() < count) throw wrong("pickle takes a value that is not there");
  Ids ids(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
  stack_.resize(stack_.size() - count);
  return ids;
}

PickleMachine::Ids PickleMachine::pop_to_mark() {
  if (marks_.empty()) throw wrong("pickle takes a mark that is not there");
  auto ids = pop_last(stack_.size() - marks_.back());
  marks_.pop_back();
  return ids;
}

PickleNode& PickleMachine::node(PickleId id, PickleKind kind) {
  auto& found = tree_.nodes[id];
  if (found.kind != kind) {
    throw wrong("pickle mixes up its values", std::string(kind_name(kind)), std::string(kind_name(found.kind)));
  }
  return found;
}

void PickleMachine::extend_top(PickleKind kind, const Ids& ids) {
  if (kind == PickleKind::dict && ids.size() % 2 != 0) throw wrong("pickle holds a key without a value");
  auto& parts = std::get<Ids>(node(top(), kind).value);
  parts.insert(parts.end(), ids.begin(), ids.end());
}

// --- memo ------------------------------------------------------------------------------------------------------------

void PickleMachine::put(uint64_t index) {
  // whoever numbers on fills one slot an operation: a larger number is an attempt at our memory
  if (index > operation_) throw wrong("pickle's memo number is too large", {}, fmt::format("{}", index));
  if (index >= memo_.size()) memo_.resize(static_cast<size_t>(index) + 1);
  memo_[static_cast<size_t>(index)] = top();
  ++puts_;
}

void PickleMachine::get(uint64_t index) {
  if (index >= memo_.size() || !memo_[static_cast<size_t>(index)]) {
    throw wrong("pickle takes a memo that was not written", {}, fmt::format("{}", index));
  }
  stack_.push_back(*memo_[static_cast<size_t>(index)]);
}

// --- what would be run -----------------------------------------------------------------------------------------------

void PickleMachine::name_from_stack() {
  const auto name = pop(), module = pop();
  push_global(node(module, PickleKind::text).text(), node(name, PickleKind::text).text());
}

void PickleMachine::reduce() {
  const auto arguments = pop(), called = pop();
  const auto name = node(called, PickleKind::global).text();
  const auto& given = node(arguments, PickleKind::tuple).parts();  // a deque's elements stay where they are
  if (name == kOrderedDict) {
    push(PickleKind::dict, values_for(given, true));
  } else if (is_set(name)) {
    push(PickleKind::list, values_for(given, false));
  } else {
    push(PickleKind::object, Ids{called, arguments});
  }
}

PickleMachine::Ids PickleMachine::values_for(const Ids& arguments, bool pairs) {
  Ids values;
  if (arguments.empty()) return values;
  if (arguments.size() > 1) throw wrong("pickle makes a dict or set of several values", "one list", {});
  const auto& list = node(arguments[0], PickleKind::list).parts();
  // the same list may be given again and again
  copied_ += list.size();
  if (copied_ > kPickleNodeLimit) throw wrong("pickle holds too many values");
  for (const auto item : list) {
    const auto& pair = tree_.nodes[item];
    if (!pairs) {
      values.push_back(item);
    } else if ((pair.kind == PickleKind::list || pair.kind == PickleKind::tuple) && pair.parts().size() == 2) {
      values.insert(values.end(), pair.parts().begin(), pair.parts().end());
    } else {
      throw wrong("pickle makes a dict of something else than pairs");
    }
  }
  return values;
}

void PickleMachine::build() {
  const auto state = pop();
  auto& built = tree_.nodes[top()];
  if (built.kind == PickleKind::object) {
    auto& parts = std::get<Ids>(built.value);
    parts.resize(2);  // an earlier state goes
    parts.push_back(state);
  } else if (built.kind != PickleKind::dict) {  // a state dict's attributes are not needed
    throw wrong("pickle sets attributes", "those of a dict or tensor",
                "those of " + std::string(kind_name(built.kind)));
  }
}

PickleTree PickleMachine::finish(size_t bytes) {
  tree_.root = pop();
  tree_.bytes = bytes;
  return std::move(tree_);
}

std::string_view kind_name(PickleKind kind) {
  constexpr std::string_view kNames[] = {"None",     "a truth value", "an integer", "an integer beyond 64 bits",
                                         "a real",   "a text",        "bytes",      "a list",
                                         "a tuple",  "a dict",        "a name",     "an object",
                                         "a storage"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace nextscale
