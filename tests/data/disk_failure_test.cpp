#include <functional>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/data/picture.h"
#include "nextscale/data/token_cache.h"
#include "nextscale/tests/support/failing_files.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryDirectory;

/// Writes on a disk that fails at operation 0, 1, 2 …: the file is whole, the old or the new one, and the error names
/// it.
void expect_old_or_new(const std::function<void(const std::filesystem::path&, int value, FileOperations&)>& write) {
  const TemporaryDirectory folder;
  testing::FailingFiles good(1 << 30, false);
  write(folder / "old", 1, good);
  write(folder / "new", 2, good);
  const auto before = read_file(folder / "old"), after = read_file(folder / "new");
  ASSERT_NE(before, after);
  int operations = 0;
  for (const bool crash : {false, true}) {
    for (int fail_at = 0;; ++fail_at) {
      const auto path = folder / "file";
      testing::write_file(path, before);
      testing::FailingFiles files(fail_at, crash);
      std::string message;
      try {
        write(path, 2, files);
      } catch (const Error& error) {
        message = error.what();
      }
      if (files.calls <= fail_at) break;
      operations = std::max(operations, fail_at + 1);
      SCOPED_TRACE("operation " + std::to_string(fail_at) + ": " + message);
      const auto found = read_file(path);
      EXPECT_TRUE(found == before || found == after);
      EXPECT_TRUE(!message.empty() || found == after);
      if (message.empty()) continue;
      EXPECT_THAT(message, HasSubstr("No space left on device"));
      EXPECT_THAT(message, HasSubstr(found == before ? path.string() : folder.path().string()));
    }
  }
  EXPECT_GE(operations, 5);  // open, write, fsync, close, rename
}

TEST(DiskFailure, LeavesTheOldTokenCacheOrTheNewOne) {
  expect_old_or_new([](const std::filesystem::path& path, int value, FileOperations& files) {
    TokenCache cache;
    cache.train_tokens = at::full({4, 6}, value, at::kShort);
    cache.val_tokens = at::full({2, 6}, value, at::kShort);
    cache.train_labels = at::zeros({4}, at::kLong);
    cache.val_labels = at::zeros({2}, at::kLong);
    cache.quantizer = {{"embedding.weight", at::zeros({16, 4})}};
    cache.quantizer_config = cache.tokenizer_config = "{}";
    write_token_cache(path, cache, files);
  });
}

TEST(DiskFailure, LeavesTheOldPictureOrTheNewOne) {
  expect_old_or_new([](const std::filesystem::path& path, int value, FileOperations& files) {
    write_png(path, at::full({8, 8, 3}, value, at::kByte), Sync::now, files);
  });
}

}  // namespace
}  // namespace nextscale
