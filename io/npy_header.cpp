#include "nextscale/io/npy_header.h"

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/safetensors.h"

namespace nextscale {
namespace {

/// Reads the few Python literals that a header may hold.
class Literals {
 public:
  Literals(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  NpyHeader header() {
    NpyHeader header;
    bool seen[3] = {};
    expect('{');
    while (!take('}')) {
      const auto key = quoted("a name in quotes");
      expect(':');
      const int which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (which < 0) refuse("descr, fortran_order and shape only", "\"" + key + "\"");
      if (seen[which]) refuse("each key once", "\"" + key + "\" twice");
      seen[which] = true;
      if (which == 0) header.descr = type();
      if (which == 1) header.fortran_order = truth();
      if (which == 2) header.shape = sizes();
      if (take(',')) continue;
      expect('}');
      break;
    }
    if (!seen[0] || !seen[1] || !seen[2]) refuse("descr, fortran_order and shape", "fewer");
    skip_blanks();
    if (at_ < text_.size()) refuse("its end after the dictionary", "more");
    return header;
  }

 private:
  [[noreturn]] void refuse(const std::string& expected, const std::string& got) const {
    throw failure({where_, "header is no dictionary with descr, fortran_order and shape", expected, got});
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }

  bool take(char wanted) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void expect(char wanted) {
    if (!take(wanted)) refuse(fmt::format("'{}' at character {}", wanted, at_), found());
  }

  /// What stands here, for messages; always printable.
  std::string found() const {
    if (at_ >= text_.size()) return "its end";
    const auto c = static_cast<unsigned char>(text_[at_]);
    return c >= 0x20 && c < 0x7F ? fmt::format("'{}'", text_[at_]) : fmt::format("byte {}", c);
  }

  std::string quoted(const char* what) {
    skip_blanks();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') refuse(fmt::format("{} at character {}", what, at_), found());
    const auto end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) refuse("a closing quote", "its end");
    const auto inside = text_.substr(at_ + 1, end - at_ - 1);
    for (const unsigned char c : inside) {
      if (c < 0x20 || c >= 0x7F || c == '\\') refuse("plain characters in quotes", fmt::format("byte {}", c));
    }
    at_ = end + 1;
    return std::string(inside);
  }

  std::string type() {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == '[') {
      throw failure({where_, "has a structured type", "a plain one such as '<f4'", {}});
    }
    return quoted("a type in quotes");
  }

  bool truth() {
    skip_blanks();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}}) {
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    refuse(fmt::format("True or False at character {}", at_), found());
  }

  std::vector<int64_t> sizes() {
    std::vector<int64_t> shape;
    expect('(');
    while (!take(')')) {
      if (shape.size() == kSafetensorsDimensionLimit) {
        throw failure({where_, "too many dimensions", fmt::format("at most {}", kSafetensorsDimensionLimit), {}});
      }
      shape.push_back(size());
      if (take(',')) continue;
      expect(')');
      if (shape.size() == 1) refuse("a tuple", "a number in brackets");
      break;
    }
    return shape;
  }

  int64_t size() {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == '-') throw failure({where_, "shape has a negative size", {}, {}});
    const auto begin = at_;
    int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (!checked_multiply(value, 10, &value) || !checked_add(value, text_[at_] - '0', &value)) {
        throw failure({where_, "shape is too large", "sizes below 2^63", {}});
      }
    }
    if (at_ == begin) refuse(fmt::format("a number at character {}", at_), found());
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // long integers of Python 2
    return value;
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
};

}  // namespace

NpyHeader parse_npy_header(std::string_view text, const std::string& where) { return Literals(text, where).header(); }

}  // namespace nextscale
