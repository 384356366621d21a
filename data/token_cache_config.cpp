#include "nextscale/data/token_cache_config.h"

#include "nextscale/base/error.h"
#include "nextscale/io/json_file.h"

namespace nextscale {
namespace {

struct Entries {
  nlohmann::json json;
  const std::string& where;

  [[noreturn]] void refuse(const std::string& key) const {
    throw failure({.where = where, .what = "config lacks a valid \"" + key + "\""});
  }
  const nlohmann::json& at(const std::string& key) const {
    const auto found = json.is_object() ? json.find(key) : json.end();
    if (found == json.end()) refuse(key);
    return *found;
  }
  std::string text(const std::string& key) const {
    if (!at(key).is_string()) refuse(key);
    return at(key).get<std::string>();
  }
  int64_t count(const std::string& key, int64_t least) const {
    // a number beyond 63 bits would come out negative
    if (!at(key).is_number_integer() || at(key).get<int64_t>() < least) refuse(key);
    return at(key).get<int64_t>();
  }
  std::vector<std::string> texts(const std::string& key) const {
    std::vector<std::string> texts;
    if (!at(key).is_array()) refuse(key);
    for (const auto& item : at(key)) {
      if (!item.is_string()) refuse(key);
      texts.push_back(item.get<std::string>());
    }
    return texts;
  }
};

}  // namespace

std::string token_cache_config_text(const TokenCacheConfig& config) {
  nlohmann::json json = {{"views", config.views},
                         {"quantizer", config.quantizer_config},
                         {"tokenizer", config.tokenizer_config},
                         {"tokenizer_hash", config.tokenizer_hash},
                         {"class_names", config.class_names},
                         {"data_fingerprint", config.data_fingerprint}};
  if (config.replaced > 0) json["replaced_pictures"] = config.replaced;
  return json.dump();
}

TokenCacheConfig parse_token_cache_config(std::string_view text, const std::string& where) {
  if (text.empty()) throw failure({.where = where, .what = "metadata lacks a config"});
  const Entries entries{parse_json(text, where + ": config"), where};
  TokenCacheConfig config;
  config.views = entries.count("views", 1);
  config.quantizer_config = entries.text("quantizer");
  config.tokenizer_config = entries.text("tokenizer");
  config.tokenizer_hash = entries.text("tokenizer_hash");
  config.class_names = entries.texts("class_names");
  config.data_fingerprint = entries.text("data_fingerprint");
  if (entries.json.contains("replaced_pictures")) config.replaced = entries.count("replaced_pictures", 0);
  return config;
}

}  // namespace nextscale
