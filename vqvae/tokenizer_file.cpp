#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/json_file.h"
#include "nextscale/io/weights.h"
#include "nextscale/vqvae/tokenizer.h"
#include "nextscale/vqvae/tokenizer_from_weights.h"

namespace nextscale {
namespace {

constexpr const char* kFormat = "nextscale.tokenizer";
constexpr const char* kTrainerPart = "trainer/vae_local";  // in a checkpoint of the reference's trainer

TokenizerOptions read_options(const WeightsFile& file, const std::string& where) {
  const auto config = file.metadata.find("config");
  if (config == file.metadata.end()) throw failure({where, "no config in the metadata", "JSON text", {}});
  const auto json = parse_json(config->second, where + ": config");
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

Tokenizer load_tokenizer(const std::filesystem::path& file_or_run, bool raw, const TokenizerHints& hints) {
  const auto path = resolve_weights_path(file_or_run, raw);
  const auto where = path.string();
  auto file = read_weights(path);
  TokenizerOptions options;
  if (file.metadata.count("format") > 0) {
    expect_format(file, kFormat, where);
    options = read_options(file, where);
    check_hints(options, hints, where);
  } else {
    if (auto part = section(file.tensors, kTrainerPart); !part.empty()) file.tensors = std::move(part);
    options = tokenizer_options_from(file.tensors, hints, where);
  }
  Tokenizer tokenizer(options);
  load_state_dict(*tokenizer, file.tensors, where, [&](const auto& tensor) { file.forget(tensor); });
  tokenizer->eval();
  return tokenizer;
}

void save_tokenizer(const std::filesystem::path& path, const Tokenizer& tokenizer, const NamedTensors& weights,
                    FileOperations& operations) {
  auto options = tokenizer->options();
  const auto config = to_json(bind_tokenizer_options(options));
  write_weights(path,
                {weights.empty() ? state_dict(*tokenizer) : weights, {{"format", kFormat}, {"config", config.dump()}}},
                operations);
}

}  // namespace nextscale
