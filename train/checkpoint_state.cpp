#include "nextscale/train/checkpoint_state.h"

#include "nextscale/base/error.h"
#include "nextscale/io/json_file.h"

namespace nextscale {
namespace {

int64_t count(const nlohmann::json& json, const std::string& where) {
  // a number beyond 63 bits would come out negative
  if (json.is_number_integer() && json.get<int64_t>() >= 0) return json.get<int64_t>();
  throw failure({.where = where, .what = "damaged", .expected = "a whole number from 0 on", .got = json.dump()});
}

}  // namespace

CheckpointState parse_checkpoint_state(std::string_view text, const std::string& where) {
  const auto json = parse_json(text, where);
  if (!json.is_object() || !json.contains("step") || !json.contains("kind") || !json["kind"].is_string()) {
    throw failure({.where = where, .what = "damaged", .expected = "step and kind"});
  }
  CheckpointState state{.kind = json["kind"].get<std::string>(), .step = count(json["step"], where + ": step")};
  if (json.contains("replaced_pictures")) {
    state.replaced = count(json["replaced_pictures"], where + ": replaced_pictures");
  }
  return state;
}

}  // namespace nextscale
