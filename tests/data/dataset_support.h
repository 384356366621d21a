#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/data/dataset.h"
#include "nextscale/data/picture.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {

namespace fs = std::filesystem;

inline std::string png(int value, int64_t height = 8, int64_t width = 8) {
  return encode_png(at::full({height, width, 3}, value, at::kByte));
}

inline void add_picture(const fs::path& path, int value, int64_t height = 8, int64_t width = 8) {
  fs::create_directories(path.parent_path());
  write_file(path, png(value, height, width));
}

inline DataOptions at_path(const fs::path& path) {
  DataOptions options;
  options.data = path.string();
  return options;
}

// What opening complains of; empty if it does not.
inline std::string complaint(const DataOptions& options, ExitCode code = ExitCode::failure) {
  try {
    open_data(options);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

inline std::vector<std::string> names(const Dataset& dataset) {
  std::vector<std::string> result;
  for (int64_t i = 0; i < dataset.size(); ++i) result.push_back(dataset.name(i));
  return result;
}

inline std::vector<int64_t> labels(const Dataset& dataset) {
  std::vector<int64_t> result;
  for (int64_t i = 0; i < dataset.size(); ++i) result.push_back(dataset.label(i));
  return result;
}

inline int value(const Dataset& dataset, int64_t i) { return dataset.picture(i)[0][0][0].item<int>(); }

}  // namespace nextscale::testing
