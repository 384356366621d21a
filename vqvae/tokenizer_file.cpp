#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/weights.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {
namespace {

constexpr const char* kFormat = "nextscale.tokenizer";

TokenizerOptions read_options(const WeightsFile& file, const std::string& where) {
  const auto config = file.metadata.find("config");
  const auto json = nlohmann::json::parse(config == file.metadata.end() ? "" : config->second, nullptr,
                                          /*allow_exceptions=*/false);
  if (json.is_discarded()) throw failure({where, "no readable config in the metadata", "JSON text", {}});
  TokenizerOptions options;
  read_json(bind_tokenizer_options(options), json, where);
  try {
    check_together(options);
  } catch (const Error& e) {  // here it is the file that is wrong, not the command line
    throw failure({where + ": " + e.parts().where, e.parts().what, e.parts().expected, e.parts().got});
  }
  return options;
}

}  // namespace

Tokenizer load_tokenizer(const std::filesystem::path& file_or_run, bool raw) {
  const auto path = resolve_weights_path(file_or_run, raw);
  const auto file = read_weights(path);
  expect_format(file, kFormat, path.string());
  Tokenizer tokenizer(read_options(file, path.string()));
  load_state_dict(*tokenizer, file.tensors, path.string());
  tokenizer->eval();
  return tokenizer;
}

void save_tokenizer(const std::filesystem::path& path, const Tokenizer& tokenizer, const NamedTensors& weights) {
  auto options = tokenizer->options();
  const auto config = to_json(bind_tokenizer_options(options));
  write_weights(path,
                {weights.empty() ? state_dict(*tokenizer) : weights, {{"format", kFormat}, {"config", config.dump()}}});
}

}  // namespace nextscale
