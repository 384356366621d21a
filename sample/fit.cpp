#include "nextscale/sample/fit.h"

#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

template <class Value>
void check_same(const std::string& what, const Value& tokenizer, const Value& model) {
  if (tokenizer == model) return;
  throw failure({.where = "model and tokenizer do not fit",
                 .what = what,
                 .expected = fmt::format("{} as the tokenizer has", fmt::join(tokenizer, ",")),
                 .got = fmt::format("{} of the model", fmt::join(model, ","))});
}

}  // namespace

void check_fit(const TransformerOptions& transformer, const QuantizerOptions& quantizer) {
  using List = std::vector<int64_t>;
  check_same("number of codes V", List{quantizer.codes}, List{transformer.codes});
  check_same("width of a code Cvae", List{quantizer.code_width}, List{transformer.code_width});
  check_same("sides of the token maps", quantizer.sides, transformer.sides);
}

}  // namespace nextscale
