#include "nextscale/io/zip.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "nextscale/io/mapped_file.h"
#include "nextscale/io/zip_writer.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/support/failing_files.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;

std::string content(ZipReader& zip, const std::string& name) {
  const auto* entry = zip.find(name);
  return entry ? std::string(as_text(zip.read(*entry, ZipChecksums::always).bytes)) : "no such entry";
}

/// Leaves holes where much is written: content of zeros beyond 4 GiB takes no room on the disk.
class HoledFiles : public FileOperations {
 public:
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    if (count < kLarge) return FileOperations::write(descriptor, bytes, count);
    return ::lseek(descriptor, static_cast<off_t>(count), SEEK_CUR) < 0 ? -1 : static_cast<ssize_t>(count);
  }
  int fsync(int) override { return 0; }
  static constexpr size_t kLarge = size_t{1} << 20;
};

TEST(Zip, WhatIsWrittenComesBackAlignedAndInOrder) {
  const TemporaryDirectory folder;
  ZipWriter writer(folder / "x.zip");
  writer.add("first", as_bytes("one"), 64);
  writer.begin("größe/second", 6, 4096);
  writer.write(as_bytes("two"));
  writer.write({});
  writer.write(as_bytes("two"));
  writer.add("empty", {}, 64);
  for (int i = 0; i < 70; ++i) writer.add("n" + std::string(static_cast<size_t>(i), 'n'), as_bytes("x"), 64);
  writer.finish();
  const auto file = map_file(folder / "x.zip");
  ZipReader zip(file, "x.zip");
  ASSERT_EQ(zip.entries().size(), 73u);
  EXPECT_EQ(zip.entries()[1].name, "größe/second");
  EXPECT_EQ(content(zip, "first"), "one");
  EXPECT_EQ(content(zip, "größe/second"), "twotwo");
  EXPECT_EQ(content(zip, "empty"), "");
  EXPECT_EQ(content(zip, "third"), "no such entry");
  for (const auto& entry : zip.entries()) {
    const auto at = zip.read(entry).bytes.data() - file.bytes.data();
    EXPECT_EQ(at % (entry.name == "größe/second" ? 4096 : 64), 0) << entry.name;
  }
}

TEST(Zip, EntriesAndOffsetsBeyondFourGigabytesComeBack) {
  const TemporaryDirectory folder;
  constexpr uint64_t kSize = (uint64_t{1} << 32) + (uint64_t{16} << 20);
  const std::vector<std::byte> zeros(size_t{16} << 20);
  HoledFiles files;
  ZipWriter writer(folder / "x.zip", files);
  writer.begin("large", kSize, 64);
  for (uint64_t done = 0; done < kSize; done += zeros.size()) writer.write(zeros);
  writer.add("behind", as_bytes("it"), 64);
  writer.finish();
  ZipReader zip(map_file(folder / "x.zip"), "x.zip");
  const auto* large = zip.find("large");
  ASSERT_NE(large, nullptr);
  EXPECT_EQ(large->size, kSize);
  const auto bytes = zip.read(*large, ZipChecksums::never).bytes;
  EXPECT_EQ(bytes.size(), kSize);
  EXPECT_EQ(bytes.back(), std::byte{0});
  EXPECT_GT(zip.find("behind")->offset, kSize);
  EXPECT_EQ(content(zip, "behind"), "it");
}

TEST(Zip, MoreEntriesThanSixteenBitsCountComeBack) {
  const TemporaryDirectory folder;
  HoledFiles files;
  ZipWriter writer(folder / "x.zip", files);
  for (int i = 0; i < 66'000; ++i) writer.add(std::to_string(i), {});
  writer.finish();
  ZipReader zip(map_file(folder / "x.zip"), "x.zip");
  EXPECT_EQ(zip.entries().size(), 66'000u);
  EXPECT_EQ(content(zip, "65999"), "");
}

TEST(Zip, SizesAreKeptAndNamesComeOnce) {
  const TemporaryDirectory folder;
  ZipWriter writer(folder / "x.zip");
  writer.begin("a", 3);
  EXPECT_THAT(message_of([&] { writer.write(as_bytes("four")); }),
              HasSubstr("x.zip: a: cannot be written: more content than announced: expected 3 bytes more, got 4"));
  EXPECT_THAT(message_of([&] { writer.begin("b", 1); }),
              HasSubstr("x.zip: a: cannot be written: content is missing: got 3 bytes less"));
  writer.write(as_bytes("abc"));
  EXPECT_THAT(message_of([&] { writer.begin("a", 1); }), HasSubstr("x.zip: a: cannot be written: entry comes twice"));
  EXPECT_THAT(message_of([&] { writer.begin(std::string(65536, 'n'), 1); }), HasSubstr("a name is too long"));
  EXPECT_FALSE(std::filesystem::exists(folder / "x.zip"));
}

TEST(Zip, AFailureAtAnyOperationLeavesTheOldFile) {
  for (int fail_at = 0;; ++fail_at) {
    const TemporaryDirectory folder;
    write_file(folder / "x.zip", "old");
    FailingFiles files(fail_at, false);
    const auto message = message_of([&] {
      ZipWriter writer(folder / "x.zip", files);
      writer.add("a", as_bytes("one"), 64);
      writer.finish();
    });
    if (files.calls <= fail_at) {
      EXPECT_GE(fail_at, 8);
      break;
    }
    SCOPED_TRACE(message);
    if (read_file(folder / "x.zip") != "old") ZipReader(map_file(folder / "x.zip"), "x.zip");
    EXPECT_TRUE(message == "no error" || message.find(": No space left on device") != message.npos);
  }
}

}  // namespace
}  // namespace nextscale::testing
