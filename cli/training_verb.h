#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "nextscale/base/command_line.h"
#include "nextscale/base/options.h"
#include "nextscale/base/runtime.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/data/dataset.h"
#include "nextscale/train/loop.h"

/// What the verbs that train have in common.
namespace nextscale::cli {

/// Rows without some names: what the data or another file decides is no option.
std::vector<BoundOption> without(std::vector<BoundOption> options, std::initializer_list<std::string_view> names);

/// Length of the schedule. A length that was typed replaces the preset's, also where that counts the other way.
/// @throws Error usage if both were typed, or there is no length at all
int64_t schedule_steps(const CommandLine& line, const LoopOptions& loop, int64_t pictures);

/// The command as one line of a shell.
std::string command_text(const std::string& verb, const Words& words);

/// Keys of a run's config that may change between its calls (see Run): everything below "call". What decides the
/// result stands beside it.
nlohmann::json call_config(const RuntimeOptions& runtime, const LoopOptions& loop, const DataOptions& data);
inline constexpr const char* kCallKey = "call";

/// The data options that decide which batches there are, with the data's fingerprint instead of its place.
nlohmann::json data_config(const DataOptions& options, const DataParts& parts);

struct Arithmetic {
  c10::ScalarType dtype;
  std::string text;  ///< with the reason: "bfloat16: bfloat16 is 2.4 times as fast as float32 here"
};
/// --dtype; auto is what the run in this folder was begun with, else what measures fastest.
Arithmetic choose_arithmetic(const RuntimeOptions& runtime, const c10::Device& device, const std::string& run = "");

/// On stderr, behind the name of the program; a bar in progress is not torn.
void warn(const std::string& text);
/// A line of information on stderr unless quiet.
void note(const RuntimeOptions& runtime, const std::string& text);

}  // namespace nextscale::cli
