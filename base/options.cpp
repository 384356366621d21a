#include "nextscale/base/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

std::string number_text(int64_t v) { return std::to_string(v); }
std::string number_text(double v) { return fmt::format("{}", v); }

template <class Number>
std::optional<Number> parse_number(const std::string& typed) {
  Number value{};
  const char* end = typed.data() + typed.size();
  const auto result = std::from_chars(typed.data(), end, value);
  if (typed.empty() || result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

std::optional<bool> parse_bool(const std::string& typed) {
  for (const auto* yes : {"true", "1", "yes", "on", ""}) {
    if (typed == yes) return true;
  }
  for (const auto* no : {"false", "0", "no", "off"}) {
    if (typed == no) return false;
  }
  return std::nullopt;
}

std::vector<std::string> split(const std::string& typed) {
  std::vector<std::string> parts;
  if (typed.empty()) return parts;
  size_t at = 0;
  for (size_t comma = typed.find(','); comma != std::string::npos; comma = typed.find(',', at)) {
    parts.push_back(typed.substr(at, comma - at));
    at = comma + 1;
  }
  parts.push_back(typed.substr(at));
  return parts;
}

template <class Number>
std::optional<std::vector<Number>> parse_list(const std::string& typed) {
  std::vector<Number> values;
  for (const auto& part : split(typed)) {
    const auto value = parse_number<Number>(part);
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return values;
}

const char* type_words(const OptionValue& value) {
  static constexpr const char* kWords[] = {
      "true or false",       "a whole number",   "a number", "text", "whole numbers with commas",
      "numbers with commas", "words with commas"};
  return kWords[value.index()];
}

std::optional<bool> parsed(const std::string& typed, bool*) { return parse_bool(typed); }
std::optional<int64_t> parsed(const std::string& typed, int64_t*) { return parse_number<int64_t>(typed); }
std::optional<double> parsed(const std::string& typed, double*) { return parse_number<double>(typed); }
std::optional<std::string> parsed(const std::string& typed, std::string*) { return typed; }
auto parsed(const std::string& typed, std::vector<int64_t>*) { return parse_list<int64_t>(typed); }
auto parsed(const std::string& typed, std::vector<double>*) { return parse_list<double>(typed); }
std::optional<std::vector<std::string>> parsed(const std::string& typed, std::vector<std::string>*) {
  return split(typed);
}

std::string value_text(bool v) { return v ? "true" : "false"; }
std::string value_text(int64_t v) { return number_text(v); }
std::string value_text(double v) { return number_text(v); }
std::string value_text(const std::string& v) { return v; }
template <class T>
std::string value_text(const std::vector<T>& values) {
  std::string text;
  for (const auto& v : values) text += (text.empty() ? "" : ",") + value_text(v);
  return text;
}

bool json_fits(const nlohmann::json& json, bool*) { return json.is_boolean(); }
bool json_fits(const nlohmann::json& json, int64_t*) { return json.is_number_integer(); }
bool json_fits(const nlohmann::json& json, double*) { return json.is_number(); }
bool json_fits(const nlohmann::json& json, std::string*) { return json.is_string(); }
template <class T>
bool json_fits(const nlohmann::json& json, std::vector<T>*) {
  return json.is_array() && std::all_of(json.begin(), json.end(),
                                        [](const auto& item) { return json_fits(item, static_cast<T*>(nullptr)); });
}

std::string rule_or_type(const BoundOption& option) {
  return option.rule.empty() ? std::string(type_words(option.value)) : option.rule;
}

}  // namespace

template <class Number>
std::string Between<Number>::rule() const {
  if (high == std::numeric_limits<Number>::max()) return "at least " + number_text(low);
  return "between " + number_text(low) + " and " + number_text(high);
}
template struct Between<int64_t>;
template struct Between<double>;

bool OneOf::operator()(const std::string& v) const { return std::find(words.begin(), words.end(), v) != words.end(); }
std::string OneOf::rule() const {
  std::string text = "one of ";
  for (size_t i = 0; i < words.size(); ++i) text += (i > 0 ? ", " : "") + words[i];
  return text;
}

std::string BoundOption::flag() const {
  std::string flag = name;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

std::string BoundOption::text() const {
  return std::visit([](const auto* v) { return value_text(*v); }, value);
}

void BoundOption::parse(const std::string& typed) const {
  std::visit(
      [&](auto* v) {
        auto result = parsed(typed, v);
        if (!result) throw usage({"--" + flag(), "cannot be parsed", type_words(value), "'" + typed + "'"});
        auto old = *v;
        *v = std::move(*result);
        if (!fits()) {
          *v = std::move(old);
          throw usage({"--" + flag(), "out of range", rule_or_type(*this), "'" + typed + "'"});
        }
      },
      value);
}

void validate(const std::vector<BoundOption>& options) {
  for (const auto& option : options) {
    if (!option.fits()) throw usage({"--" + option.flag(), "out of range", rule_or_type(option), option.text()});
  }
}

nlohmann::json to_json(const std::vector<BoundOption>& options) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& option : options) {
    std::visit([&](const auto* v) { json[option.name] = *v; }, option.value);
  }
  return json;
}

void read_json(const std::vector<BoundOption>& options, const nlohmann::json& json, const std::string& where) {
  if (!json.is_object()) throw failure({where, "not a configuration", "a JSON object", json.type_name()});
  for (const auto& [key, item] : json.items()) {
    const auto found =
        std::find_if(options.begin(), options.end(), [&key = key](const auto& o) { return o.name == key; });
    if (found == options.end()) throw failure({where, "unknown key '" + key + "'", {}, {}});
    std::visit(
        [&, &item = item](auto* v) {
          using Value = std::remove_pointer_t<decltype(v)>;
          if (!json_fits(item, v)) {
            throw failure({where + ": " + found->name, "wrong type", type_words(found->value), item.dump()});
          }
          try {
            *v = item.template get<Value>();
          } catch (const nlohmann::json::exception&) {
            throw failure({where + ": " + found->name, "cannot be read", type_words(found->value), item.dump()});
          }
        },
        found->value);
    if (!found->fits())
      throw failure({where + ": " + found->name, "out of range", rule_or_type(*found), found->text()});
  }
}

}  // namespace nextscale
