#include <numeric>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "nextscale/io/bytes.h"
#include "nextscale/io/npz.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/io/values.h"
#include "nextscale/tests/support/failing_files.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;

template <class Value>
std::span<const std::byte> bytes_of(const std::vector<Value>& values) {
  return std::as_bytes(std::span(values));
}

/// Pictures in two pieces, a matrix, a scalar and an empty array.
void write_some(const std::filesystem::path& path, FileOperations& files = system_files()) {
  NpzWriter writer(path, files);
  const auto pictures = counted<uint8_t>(60);
  writer.begin("arr_0", Dtype::u8, {5, 2, 2, 3});
  writer.write(bytes_of(pictures).first(7));
  writer.write(bytes_of(pictures).subspan(7));
  writer.begin("mu", Dtype::f32, {2, 3});
  writer.write(bytes_of(counted<float>(6)));
  writer.begin("step", Dtype::i64, {});
  writer.write(bytes_of(std::vector<int64_t>{42}));
  writer.begin("none", Dtype::boolean, {0});
  writer.finish();
}

TEST(NpzWriter, WritesTheSameBytesWheneverItWrites) {
  const TemporaryDirectory folder;
  write_some(folder / "x.npz");
  // numpy.load, `unzip -t` and zipfile.testzip read this file
  const auto expected = read_file(std::filesystem::path(NEXTSCALE_SOURCE_DIR) / "tests/corpus/npz/valid_ours");
  EXPECT_TRUE(read_file(folder / "x.npz") == expected);
}

TEST(NpzWriter, AFailureAtAnyOperationLeavesTheOldFileAndOneClearError) {
  int operations = 0;
  for (const bool crash : {false, true}) {
    for (int fail_at = 0;; ++fail_at) {
      const TemporaryDirectory folder;
      write_file(folder / "x.npz", "old");
      FailingFiles files(fail_at, crash);
      std::string message;
      try {
        write_some(folder / "x.npz", files);
      } catch (const Error& error) {
        message = error.what();
      }
      if (files.calls <= fail_at) break;
      operations = std::max(operations, fail_at + 1);
      SCOPED_TRACE(fmt::format("operation {}: {}", fail_at, message));
      const auto found = read_file(folder / "x.npz");
      EXPECT_TRUE(found == "old" || found.size() > 1000);
      EXPECT_TRUE(!message.empty() || found != "old");
      EXPECT_TRUE(message.empty() || message.find("x.npz: ") != std::string::npos || found != "old");
      EXPECT_TRUE(message.empty() || message.find(": No space left on device") != std::string::npos);
      const auto names = std::distance(std::filesystem::directory_iterator(folder.path()), {});
      EXPECT_TRUE(crash || names == 1);
    }
  }
  EXPECT_GE(operations, 20);
}

TEST(NpzWriter, IsNotThereWithoutFinish) {
  const TemporaryDirectory folder;
  {
    NpzWriter writer(folder / "x.npz");
    writer.begin("a", Dtype::u8, {1});
    writer.write(bytes_of(counted<uint8_t>(1)));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(NpzWriter, SaysWhatCannotBeWritten) {
  const TemporaryDirectory folder;
  NpzWriter writer(folder / "x.npz");
  writer.begin("a", Dtype::u8, {2});
  EXPECT_THAT(message_of([&] { writer.write(bytes_of(counted<uint8_t>(3))); }),
              HasSubstr("x.npz: a: cannot be written: more values than its shape says: expected 2 bytes more, got 3"));
  writer.write(bytes_of(counted<uint8_t>(1)));
  EXPECT_THAT(message_of([&] { writer.finish(); }), HasSubstr("x.npz: a: cannot be written: values are missing"));
  EXPECT_THAT(message_of([&] { writer.begin("b", Dtype::u8, {}); }), HasSubstr("a: cannot be written: values"));
  writer.write(bytes_of(counted<uint8_t>(1)));
  EXPECT_THAT(message_of([&] { writer.begin("a", Dtype::u8, {}); }),
              HasSubstr("a: cannot be written: array comes twice"));
  EXPECT_THAT(message_of([&] { NpzWriter(folder / "y").begin("b", Dtype::bf16, {}); }),
              HasSubstr("b: cannot be written: numpy has no such type: got bfloat16"));
  EXPECT_THAT(message_of([&] { NpzWriter(folder / "y").begin("b", Dtype::u8, {-1}); }), HasSubstr("negative size"));
  for (const char* name : {"", "../a", "/a", "a b", "\xC3\xA4", "a\\b"}) {
    EXPECT_THAT(message_of([&] { NpzWriter(folder / "y").begin(name, Dtype::u8, {}); }),
                HasSubstr("not a name for an array"))
        << name;
  }
}

}  // namespace
}  // namespace nextscale::testing
