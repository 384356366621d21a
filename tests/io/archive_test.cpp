#include "nextscale/io/archive.h"

#include <string>
#include <utility>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct TarMember {
  std::string name, content{};
  int type = AE_IFREG;
  std::string link{};
};

std::string tar_bytes(const std::vector<TarMember>& members, bool pax = false) {
  std::string out(1 << 20, '\0');
  size_t used = 0;
  auto* writer = archive_write_new();
  pax ? archive_write_set_format_pax(writer) : archive_write_set_format_ustar(writer);
  if (pax) archive_write_set_options(writer, "hdrcharset=BINARY");
  archive_write_set_bytes_in_last_block(writer, 1);
  EXPECT_EQ(archive_write_open_memory(writer, out.data(), out.size(), &used), ARCHIVE_OK);
  for (const auto& member : members) {
    auto* entry = archive_entry_new();
    archive_entry_set_pathname(entry, member.name.c_str());
    archive_entry_set_filetype(entry, static_cast<unsigned>(member.type));
    archive_entry_set_perm(entry, 0644);
    if (member.type == AE_IFREG) archive_entry_set_size(entry, static_cast<la_int64_t>(member.content.size()));
    if (!member.link.empty() && member.type == AE_IFLNK) archive_entry_set_symlink(entry, member.link.c_str());
    if (!member.link.empty() && member.type == AE_IFREG) archive_entry_set_hardlink(entry, member.link.c_str());
    EXPECT_EQ(archive_write_header(writer, entry), ARCHIVE_OK) << archive_error_string(writer);
    archive_write_data(writer, member.content.data(), member.content.size());
    archive_entry_free(entry);
  }
  archive_write_close(writer);
  archive_write_free(writer);
  out.resize(used);
  return out;
}

TEST(Archive, GivesRegularFilesInOrderAndSkipsTheRest) {
  const auto tar = tar_bytes({{"./a/x.png", "hello"},
                              {"a", "", AE_IFDIR},
                              {"link", "", AE_IFLNK, "/etc/passwd"},
                              {"hard", "", AE_IFREG, "a/x.png"},
                              {"pipe", "", AE_IFIFO},
                              {"b/empty", ""},
                              {"b/y.png", std::string(5000, 'y')}});
  for (const auto& bytes : {tar, gzip(tar)}) {
    std::vector<std::pair<std::string, std::string>> found;
    for_each_entry(as_bytes(bytes), "f.tar", [&](const std::string& name, std::span<const std::byte> content) {
      found.emplace_back(name, as_text(content));
    });
    EXPECT_THAT(found, ElementsAre(std::pair("a/x.png", "hello"), std::pair("b/empty", ""),
                                   std::pair("b/y.png", std::string(5000, 'y'))));
  }
}

TEST(TarIndex, PointsIntoAPlainArchiveAndHoldsACompressedOne) {
  const TemporaryDirectory folder;
  const auto tar = tar_bytes({{"x", "first"}, {"y", std::string(700'000, 'z')}});
  const SharedBytes whole{nullptr, as_bytes(tar)};
  const TarIndex plain(whole, "f.tar");
  ASSERT_EQ(plain.size(), 2);
  EXPECT_EQ(plain.bytes(0).data() - whole.bytes.data(), 512);
  EXPECT_EQ(as_text(plain.bytes(1)), std::string(700'000, 'z'));

  write_file(folder / "f.tgz", gzip(tar));
  const TarIndex compressed(folder / "f.tgz");
  ASSERT_EQ(compressed.size(), 2);
  EXPECT_EQ(compressed.name(1), "y");
  EXPECT_EQ(as_text(compressed.bytes(0)), "first");
  EXPECT_EQ(as_text(compressed.bytes(1)), std::string(700'000, 'z'));
}

TEST(Archive, NamesBeyondAsciiSurviveWhateverTheLocale) {
  const std::string name = "größe/" + std::string(120, 'n') + "/猫.png";
  for (const bool pax : {false, true}) {
    const TarIndex index({nullptr, as_bytes(tar_bytes({{pax ? name : "größe.png", "x"}}, pax))}, "f.tar");
    ASSERT_EQ(index.size(), 1);
    EXPECT_EQ(index.name(0), pax ? name : "größe.png");
  }
}

TEST(Archive, DamageIsNamed) {
  const auto nothing = [](const std::string&, std::span<const std::byte>) {};
  const auto tar = tar_bytes({{"x", std::string(600, 'x')}});
  const auto error_of = [&](const std::string& bytes) {
    return message_of([&] { for_each_entry(as_bytes(bytes), "f.tar", nothing); });
  };
  EXPECT_THAT(error_of(tar.substr(0, 700)), HasSubstr("f.tar: x: tar archive is damaged: Truncated"));
  EXPECT_THAT(error_of(tar.substr(0, 512 + 1024)),
              HasSubstr("f.tar: tar archive is cut off: its end marker is missing"));
  EXPECT_THAT(error_of(std::string(2000, 'q')), HasSubstr("f.tar: tar archive is damaged"));
  EXPECT_THAT(error_of(gzip(tar).substr(0, 60)), HasSubstr("f.tar: gzip stream is cut off"));
  EXPECT_THAT(error_of(gzip(tar + std::string(70'000'000, '\0'))), HasSubstr("followed by something else"));
}

TEST(Archive, WhatTheCallerThrowsArrivesUnchanged) {
  const auto tar = tar_bytes({{"x", "x"}});
  EXPECT_EQ(message_of([&] {
              for_each_entry(as_bytes(tar), "f.tar", [](const std::string& name, std::span<const std::byte>) {
                throw failure({name, "mine", {}, {}});
              });
            }),
            "x: mine");
}

TEST(Archive, IsKnownByItsName) {
  for (const char* name : {"a.tar", "A.TAR.GZ", "x.tgz"}) EXPECT_TRUE(is_archive_name(name)) << name;
  for (const char* name : {".tar", "a.gz", "tar", "a.zip"}) EXPECT_FALSE(is_archive_name(name)) << name;
}

}  // namespace
}  // namespace nextscale::testing
