#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nextscale/base/options.h"
#include "nextscale/data/token_cache_config.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/json_file.h"
#include "nextscale/tests/fuzz/one_input.h"
#include "nextscale/train/checkpoint_state.h"
#include "nextscale/train/metrics_log.h"

/// The JSON files of a run and the JSON inside other files.
namespace nextscale::testing {

/// One option of every kind, with every kind of check.
struct EveryOption {
  bool truth = false;
  int64_t whole = 1;
  double number = 0.5;
  std::string word = "one", text;
  std::vector<int64_t> wholes = {1, 2};
  std::vector<double> numbers = {0.5};
  std::vector<std::string> words;

  static constexpr auto table() {
    using O = EveryOption;
    return std::tuple{option("truth", &O::truth, ""),
                      option("whole", &O::whole, "", between(0, 100)),
                      option("number", &O::number, "", between(0.0, 1.0)),
                      option("word", &O::word, "", one_of("one", "two")),
                      option("text", &O::text, ""),
                      option("wholes", &O::wholes, "", between(1, 1 << 20)),
                      option("numbers", &O::numbers, "", between(-1.0, 1.0)),
                      option("words", &O::words, "")};
  }
};

/// A model's configuration: read, then written and read again.
inline bool one_config(std::span<const std::byte> input) {
  return read_or_refuse([&] {
    EveryOption options, again;
    options_from_json(options, parse_json(as_text(input), "input"), "input");
    validate_options(options);
    options_from_json(again, options_to_json(options), "again");
    return static_cast<int>(again.words.size() + again.wholes.size() + again.text.size());
  });
}

/// A checkpoint's state.json, and its folder's name.
inline bool one_state(std::span<const std::byte> input) {
  const std::filesystem::path name(std::string(as_text(input.first(std::min<size_t>(input.size(), 40)))));
  [[maybe_unused]] const volatile bool is_step = step_of_checkpoint(name).has_value();
  return read_or_refuse([&] {
    const auto state = parse_checkpoint_state(as_text(input), "input");
    return static_cast<int>(state.kind.size()) + static_cast<int>(state.step % 2);
  });
}

/// A run's metrics.jsonl. Torn lines are passed over: "read" says that there is a whole one.
inline bool one_metrics(std::span<const std::byte> input) {
  const auto lines = parse_metrics(as_text(input));
  for (const auto& line : lines) {
    // every line can be written again, as far as its texts are UTF-8
    [[maybe_unused]] const volatile size_t size =
        line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).size();
  }
  return !lines.empty();
}

/// A token cache as far as it goes without LibTorch: the safetensors file and the configuration in it.
inline bool one_tokens(std::span<const std::byte> input) {
  return read_or_refuse([&] {
    const auto file = parse_safetensors(input, "input");
    int sum = 0;
    for (const auto& entry : file.entries) sum += touch(entry.data);
    const auto config = file.metadata.find("config");
    const auto read = parse_token_cache_config(config == file.metadata.end() ? "" : config->second, "input");
    return sum + static_cast<int>(read.class_names.size());
  });
}

}  // namespace nextscale::testing
