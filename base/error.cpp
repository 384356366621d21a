#include "nextscale/base/error.h"

namespace nextscale {
namespace {

/// One line, whatever a file name or a library's message contains.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  }
  return text;
}

std::string join(const ErrorParts& parts) {
  std::string text = parts.where;
  const auto add = [&text](const std::string& separator, const std::string& part) {
    if (part.empty()) return;
    if (!text.empty()) text += separator;
    text += part;
  };
  add(": ", parts.what);
  if (!parts.expected.empty()) add(": ", "expected " + parts.expected);
  if (!parts.got.empty()) add(parts.expected.empty() ? ": " : ", ", "got " + parts.got);
  return one_line(std::move(text));
}

}  // namespace

Error::Error(ExitCode code, const ErrorParts& parts) : std::runtime_error(join(parts)), code_(code), parts_(parts) {}

Error failure(const ErrorParts& parts) { return Error(ExitCode::failure, parts); }
Error usage(const ErrorParts& parts) { return Error(ExitCode::usage, parts); }

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

}  // namespace nextscale
