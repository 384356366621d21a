// The command line over files as the reference publishes them: .pth with nothing but names and tensors.
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/data/picture.h"
#include "nextscale/io/pth_writer.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/parity/case_models.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/program.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using Words = std::vector<std::string>;

void append(Words& words, const Words& more) { words.insert(words.end(), more.begin(), more.end()); }

/// What does not follow from a tokenizer's names and shapes.
Words tokenizer_words(const ParityCase& c) {
  const auto& config = c.config();
  Words words = {fmt::format("--quant-resi={}", config.at("quant_resi").get<double>())};
  if (config.at("using_znorm").get<bool>()) words.push_back("--znorm");
  if (config.at("quant_resi") == 0) words.clear();  // no phi in the file
  return words;
}

Words sides_words(const ParityCase& c) {
  return {"--sides", fmt::format("{}", fmt::join(c.config().at("sides").get<std::vector<int64_t>>(), ","))};
}

/// And from a transformer's.
Words transformer_words(const ParityCase& c) {
  Words words = {"--norm-eps", fmt::format("{}", c.config().at("norm_eps").get<double>())};
  if (!c.config().at("attn_l2_norm").get<bool>()) {
    append(words, {"--heads", std::to_string(c.config().at("heads").get<int64_t>())});
  }
  return words;
}

at::Tensor tokens_in(const std::filesystem::path& file) { return find_tensor(read_weights(file).tensors, "tokens"); }

TEST(ParityCommands, EncodeGivesTheReferencesTokensFromItsFiles) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    SCOPED_TRACE(c.name);
    if (!c.has("tok.ids") || !c.json.at("weights").contains("vae")) continue;
    const TemporaryDirectory folder;
    write_pth(folder / "vae.pth", state_dict(*tokenizer_of(c)));
    const auto pictures = bytes_from_network_range(c.pictures());  // (N, H, W, C)
    std::filesystem::create_directory(folder / "pictures");
    for (int64_t i = 0; i < pictures.size(0); ++i) {
      write_png(folder / "pictures" / fmt::format("{:04}.png", i), pictures[i]);
    }
    const auto out = folder / "tokens.safetensors";
    Words words = {"encode",
                   "--tokenizer",
                   (folder / "vae.pth").string(),
                   "--images",
                   (folder / "pictures").string(),
                   "--tokens-out",
                   out.string(),
                   "--quiet"};
    append(words, tokenizer_words(c));
    append(words, sides_words(c));
    const auto result = run_nextscale(words);
    ASSERT_EQ(result.code, 0) << result.err;
    compared.check(c, "tok.ids", tokens_in(out));
    compared.end_case(c);
  }
}

TEST(ParityCommands, SampleDrawsTheReferencesTokensFromItsFiles) {
  Compared compared;
  for (const auto& c : parity_cases()) {
    SCOPED_TRACE(c.name);
    if (!c.json.contains("sampling") || !c.json.at("weights").contains("var")) continue;
    const TemporaryDirectory folder;
    write_pth(folder / "vae.pth", state_dict(*tokenizer_of(c)));
    write_pth(folder / "var.pth", reference_state_dict(transformer_of(c)));
    for (size_t i = 0; i < c.json.at("sampling").size(); ++i) {
      const auto name = fmt::format("sample.{}.ids", i);
      if (!c.has(name)) continue;
      SCOPED_TRACE(name);
      const auto& setting = c.json.at("sampling").at(i);
      const int64_t count = setting.at("B");
      const auto out = folder / fmt::format("{}.safetensors", i);
      Words words = {
          "sample",
          "--model",
          (folder / "var.pth").string(),
          "--tokenizer",
          (folder / "vae.pth").string(),
          "--out",
          (folder / "pictures").string(),
          "--tokens-out",
          out.string(),
          "--quiet",
          fmt::format("--cfg={}", setting.at("cfg").get<double>()),
          fmt::format("--top-k={}", setting.at("top_k").get<int64_t>()),
          fmt::format("--top-p={}", setting.at("top_p").get<double>()),
          fmt::format("--seed={}", setting.at(setting.at("seed").is_null() ? "global_seed" : "seed").get<int64_t>())};
      const auto& labels = setting.at("labels");
      if (labels.is_null()) append(words, {"--random-labels", std::to_string(count)});
      if (labels.is_number()) {
        const auto label = std::max<int64_t>(labels.get<int64_t>(), -1);
        append(words,
               {fmt::format("--labels={}", fmt::join(std::vector<int64_t>(static_cast<size_t>(count), label), ","))});
      }
      if (labels.is_array())
        append(words, {fmt::format("--labels={}", fmt::join(labels.get<std::vector<int64_t>>(), ","))});
      if (setting.value("more_smooth", false)) words.push_back("--smooth");
      append(words, tokenizer_words(c));
      append(words, transformer_words(c));
      const auto result = run_nextscale(words);
      ASSERT_EQ(result.code, 0) << result.err;
      compared.check(c, name, tokens_in(out));
    }
    compared.end_case(c);
  }
}

}  // namespace
}  // namespace nextscale::testing
