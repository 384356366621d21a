#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>

#include <fmt/format.h>

#include "nextscale/base/command_line.h"
#include "nextscale/cli/loading.h"
#include "nextscale/cli/targets.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/pth_writer.h"
#include "nextscale/io/weights.h"

namespace nextscale::cli {
namespace {

struct ConvertOptions {
  std::string part = "auto";
  bool raw = false;

  static constexpr auto table() {
    using O = ConvertOptions;
    return std::tuple{
        option("part", &O::part, "of a file that holds both: transformer or tokenizer",
               one_of("auto", "transformer", "tokenizer")),
        option("raw", &O::raw, "of runs and checkpoints the weights as trained, not their running average"),
    };
  }
};

enum class Format { safetensors, pth };

Format format_of(const std::string& out) {
  const auto ending = std::filesystem::path(out).extension().string();
  if (ending == ".safetensors") return Format::safetensors;
  if (ending == ".pth" || ending == ".pt") return Format::pth;
  throw usage({out, "has an ending that says no format", ".safetensors or .pth", ending.empty() ? "none" : ending});
}

bool is_tokenizer(const WeightsFile& file, const ConvertOptions& options, const std::string& where) {
  const auto format = file.metadata.find("format");
  if (format != file.metadata.end()) {
    if (format->second == "nextscale.tokenizer") return true;
    if (format->second == "nextscale.transformer") return false;
    throw failure({where, "cannot be converted", "a tokenizer or a transformer", format->second});
  }
  const auto any = [&](const char* plain, const char* nested) {
    return find_tensor(file.tensors, plain).defined() || find_tensor(file.tensors, nested).defined();
  };
  const bool tokenizer = any("quantize.embedding.weight", "trainer/vae_local/quantize.embedding.weight");
  const bool transformer = any("word_embed.weight", "trainer/var_wo_ddp/word_embed.weight");
  if (tokenizer && transformer && options.part == "auto") {
    throw usage({where, "holds a tokenizer and a transformer", "--part tokenizer or --part transformer", {}});
  }
  if (options.part != "auto") return options.part == "tokenizer";
  return tokenizer;
}

[[noreturn]] void refuse(const std::string& where, const char* option, const std::string& expected,
                         const std::string& got) {
  throw failure({where + ": " + option, "cannot be said in a file of the reference", expected, got});
}

/// What the reference's modules have no argument for.
void check_expressible(const TokenizerOptions& options, const std::string& where) {
  const auto need = [&](const char* name, int64_t expected, int64_t got) {
    if (expected != got) refuse(where, name, std::to_string(expected), std::to_string(got));
  };
  need("channels", 3, options.channels);
  need("norm_groups", 32, options.norm_groups);
  need("space_to_depth", 1, options.space_to_depth);
  need("attention", 1, options.attention ? 1 : 0);
  if (options.decoder_res_blocks != 0) need("decoder_res_blocks", options.res_blocks + 1, options.decoder_res_blocks);
}

void check_expressible(const TransformerOptions& options, const std::string& where) {
  if (options.classes == 0) refuse(where, "classes", "at least 1", "0");
  if (!options.attn_l2_norm && options.attention_scale != 0 && options.attention_scale != 0.25) {
    refuse(where, "attention_scale", "0.25", fmt::format("{}", options.attention_scale));
  }
}

uint64_t bytes_of(const torch::nn::Module& module) {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : state_dict(module)) bytes += tensor.nbytes();
  return bytes;
}

std::map<std::string, std::string> kept_metadata(const WeightsFile& file) {
  std::map<std::string, std::string> kept;
  for (const char* key : {"class_names", "tokenizer_hash"}) {
    if (const auto found = file.metadata.find(key); found != file.metadata.end()) kept.insert(*found);
  }
  return kept;
}

}  // namespace

ExitCode convert(const Words& words) {
  ConvertOptions options;
  LoadingOptions loading;
  CommandLine line("nextscale convert IN OUT [OPTIONS]",
                   "Writes a tokenizer or a transformer as safetensors with its config, or as a .pth file that the "
                   "Python reference loads, by OUT's ending.");
  line.add("Weights", bind_options(options));
  add_loading(line, loading, Loads::both);
  line.allow_positional("IN OUT", "a run, a checkpoint, a safetensors or .pth file; and the file to write");
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return ExitCode::done;
  }
  line.apply();
  if (line.positional().size() != 2) {
    throw usage({.where = "convert",
                 .what = "takes IN and OUT (see nextscale convert --help)",
                 .got = fmt::format("{} words", line.positional().size())});
  }
  const auto& in = line.positional()[0];
  const auto& out = line.positional()[1];
  const auto format = format_of(out);
  const auto path = resolve_weights_path(in, options.raw).string();
  const auto file = read_weights(path);
  if (is_tokenizer(file, options, path)) {
    const auto tokenizer = load_tokenizer(path, options.raw, tokenizer_hints(line, loading));
    prepare_target(out, bytes_of(*tokenizer));
    if (format == Format::pth) {
      check_expressible(tokenizer->options(), path);
      write_pth(out, state_dict(*tokenizer));
    } else {
      save_tokenizer(out, tokenizer);
    }
    fmt::print("tokenizer: {}\n", out);
  } else {
    const auto transformer = load_transformer(path, options.raw, transformer_hints(line, loading));
    prepare_target(out, bytes_of(*transformer));
    if (format == Format::pth) {
      check_expressible(transformer->options(), path);
      write_pth(out, reference_state_dict(transformer));
    } else {
      save_transformer(out, transformer, {}, kept_metadata(file));
    }
    fmt::print("transformer: {}\n", out);
  }
  return ExitCode::done;
}

}  // namespace nextscale::cli
