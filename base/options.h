#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace nextscale {

/// Options are plain structs; each lives beside the class that reads it and declares its members once, in `table()`:
///
///   struct SampleOptions {
///     double cfg = 1.5;
///     static constexpr auto table() {
///       using O = SampleOptions;
///       return std::tuple{option("cfg", &O::cfg, "classifier-free guidance; 0 = off", between(0.0, 50.0))};
///     }
///   };
///
/// Command line, --help, JSON in checkpoints and validation are loops over that table (base/command_line.h for the
/// first two). A name is the JSON key; with '_' turned into '-' it is the flag.
using OptionValue = std::variant<bool*, int64_t*, double*, std::string*, std::vector<int64_t>*, std::vector<double>*,
                                 std::vector<std::string>*>;

/// Checks: callable with a value, and say their rule in words. NaN fails every one of them.
struct AnyValue {
  template <class Value>
  bool operator()(const Value&) const {
    return true;
  }
  std::string rule() const { return ""; }
};
constexpr AnyValue any_value() { return {}; }

template <class Number>
struct Between {
  Number low, high;
  bool operator()(Number v) const { return v >= low && v <= high; }
  bool operator()(const std::vector<Number>& values) const {
    for (const auto v : values) {
      if (!(*this)(v)) return false;
    }
    return !values.empty();
  }
  std::string rule() const;
};
constexpr Between<int64_t> between(int low, int high) { return {low, high}; }
constexpr Between<int64_t> between(int64_t low, int64_t high) { return {low, high}; }
constexpr Between<double> between(double low, double high) { return {low, high}; }
constexpr Between<int64_t> at_least(int64_t low) { return {low, std::numeric_limits<int64_t>::max()}; }

struct OneOf {
  std::vector<std::string> words;
  bool operator()(const std::string& v) const;
  std::string rule() const;
};
template <class... Words>
constexpr OneOf one_of(Words... words) {
  return {{std::string(words)...}};
}

template <class Struct, class Value, class Check>
struct Option {
  std::string_view name;
  Value Struct::*member;
  std::string_view help;
  Check check;
};
template <class Struct, class Value, class Check = AnyValue>
constexpr auto option(std::string_view name, Value Struct::*member, std::string_view help, Check check = {}) {
  return Option<Struct, Value, Check>{name, member, help, std::move(check)};
}

/// One row of a table tied to one struct; valid while the struct lives and is not moved.
struct BoundOption {
  std::string name;  ///< JSON key
  std::string help;
  std::string rule;  ///< "between 0 and 50"
  OptionValue value;
  std::function<bool()> fits;  ///< does the present value pass the check?

  std::string flag() const;  ///< "top-k"
  std::string text() const;  ///< the present value as a user would type it
  /// Parses as a user typed it and sets. @throws Error usage naming --flag; the old value stays
  void parse(const std::string& typed) const;
};

template <class Struct>
std::vector<BoundOption> bind_options(Struct& s) {
  std::vector<BoundOption> bound;
  const auto add = [&](const auto& o) {
    auto* value = &(s.*o.member);
    bound.push_back({std::string(o.name), std::string(o.help), o.check.rule(), OptionValue(value),
                     [value, check = o.check] { return check(*value); }});
  };
  std::apply([&](const auto&... o) { (add(o), ...); }, Struct::table());
  return bound;
}

/// @throws Error usage: "--top-k: out of range: expected …, got …"
void validate(const std::vector<BoundOption>& options);
nlohmann::json to_json(const std::vector<BoundOption>& options);
/// Missing keys keep their value. @param where names the file in errors
/// @throws Error failure for an unknown key, a wrong type, a value out of range
void read_json(const std::vector<BoundOption>& options, const nlohmann::json& json, const std::string& where);

template <class Struct>
void validate_options(const Struct& s) {
  validate(bind_options(const_cast<Struct&>(s)));  // bind only reads here
}
template <class Struct>
auto options_to_json(const Struct& s) {
  return to_json(bind_options(const_cast<Struct&>(s)));
}
template <class Struct>
void options_from_json(Struct& s, const nlohmann::json& json, const std::string& where) {
  read_json(bind_options(s), json, where);
}

}  // namespace nextscale
