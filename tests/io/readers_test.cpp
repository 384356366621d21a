#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/base/error.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/gzip.h"
#include "nextscale/io/idx.h"
#include "nextscale/io/json_file.h"
#include "nextscale/io/mapped_file.h"
#include "nextscale/io/safetensors.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// --- bytes ---------------------------------------------------------------------------------------------------------

TEST(ByteCursor, ReadsNumbersInBothOrdersAndNeverBeyondTheEnd) {
  const std::string bytes("\x01\x02\x03\x04\x05\x00\x00\x00\x00\x00\x00\x80\xFF", 13);
  ByteCursor cursor(as_bytes(bytes), "file");
  EXPECT_EQ(cursor.u32_big_endian("number"), 0x01020304u);
  EXPECT_EQ(cursor.u64_little_endian("number"), 0x8000000000000005u);
  EXPECT_EQ(cursor.u8("number"), 0xFF);
  EXPECT_EQ(cursor.left(), 0u);
  EXPECT_EQ(message_of([&] { cursor.take(3, "tail"); }),
            "file: tail is cut off: expected 3 bytes at offset 13, got 0 bytes");
}

TEST(Bytes, ProductsAndSumsThatDoNotFitAreNoticed) {
  int64_t out = 0;
  EXPECT_TRUE(checked_multiply(1 << 30, 1 << 30, &out));
  EXPECT_EQ(out, int64_t{1} << 60);
  EXPECT_FALSE(checked_multiply(int64_t{1} << 32, int64_t{1} << 31, &out));
  EXPECT_FALSE(checked_add(std::numeric_limits<int64_t>::max(), 1, &out));
}

TEST(MappedFile, RefusesFoldersPipesAndMissingFilesByName) {
  const TemporaryDirectory folder;
  EXPECT_THAT(message_of([&] { MappedFile::open(folder.path()); }), HasSubstr("expected a file, got a folder"));
  EXPECT_THAT(message_of([&] { MappedFile::open("/dev/null"); }), HasSubstr("/dev/null: cannot be read"));
  EXPECT_THAT(message_of([&] { MappedFile::open(folder / "none"); }), HasSubstr("none: cannot be read: No such file"));
  write_file(folder / "empty", "");
  EXPECT_TRUE(MappedFile::open(folder / "empty")->bytes().empty());
}

TEST(JsonFile, IsReadOrRefusedNamingTheFile) {
  const TemporaryDirectory folder;
  write_file(folder / "good.json", R"({"step": 7})");
  EXPECT_EQ(read_json_file(folder / "good.json").at("step"), 7);
  write_file(folder / "cut.json", R"({"step": )");
  EXPECT_THAT(message_of([&] { read_json_file(folder / "cut.json"); }), HasSubstr("cut.json: no valid JSON at byte"));
  write_file(folder / "deep.json", std::string(5000, '['));
  EXPECT_THAT(message_of([&] { read_json_file(folder / "deep.json"); }),
              HasSubstr("deep.json: JSON is nested too deep"));
}

// --- safetensors ---------------------------------------------------------------------------------------------------

std::string safetensors_bytes(std::string header, const std::string& data) {
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>((header.size() >> (8 * i)) & 0xFF);
  return length + header + data;
}

TEST(Safetensors, GivesEntriesInTheHeadersOrderWithTheirBytes) {
  const auto file = safetensors_bytes(R"({"b":{"dtype":"U8","shape":[2,1],"data_offsets":[4,6]},)"
                                      R"("__metadata__":{"format":"x","note":"ä"},)"
                                      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}} )",
                                      "abcdef");
  const auto read = parse_safetensors(as_bytes(file), "f");
  ASSERT_EQ(read.entries.size(), 2u);
  EXPECT_EQ(read.entries[0].name, "b");
  EXPECT_EQ(read.entries[0].dtype, Dtype::u8);
  EXPECT_THAT(read.entries[0].shape, ElementsAre(2, 1));
  EXPECT_EQ(as_text(read.entries[0].data), "ef");
  EXPECT_EQ(read.entries[1].name, "a");
  EXPECT_TRUE(read.entries[1].shape.empty());
  EXPECT_EQ(as_text(read.entries[1].data), "abcd");
  EXPECT_EQ(read.metadata.at("note"), "ä");
}

struct Damage {
  std::string header, data, message;
};
class SafetensorsDamage : public ::testing::TestWithParam<Damage> {};

TEST_P(SafetensorsDamage, IsNamedWithFileEntryExpectedAndFound) {
  const auto& [header, data, message] = GetParam();
  const auto file = safetensors_bytes(header, data);
  EXPECT_EQ(message_of([&] { parse_safetensors(as_bytes(file), "f.safetensors"); }), "f.safetensors: " + message);
}

INSTANTIATE_TEST_SUITE_P(
    Headers, SafetensorsDamage,
    ::testing::Values(
        Damage{R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}})", std::string(20, 'x'),
               "w: data has the wrong size: expected 24 bytes for F32 (2, 3), got 20 bytes"},
        Damage{R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "1234",
               "w: data lies outside the file: expected at most 4 bytes of data, got 0 to 8"},
        Damage{R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "12345",
               "data has the wrong size: expected 4 bytes, got 5 bytes"},
        Damage{
            R"({"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"v":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
            "1234", "v: data overlaps another entry's: expected begin at 3, got 2"},
        Damage{R"({"w":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}})", "1234",
               "w: gap before the data: expected begin at 0, got 1"},
        Damage{R"({"w":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}})", "1",
               "w: unknown dtype: expected one of F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL, got "
               "F8"},
        Damage{R"({"w":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "1",
               "w: header is not as the format says: expected a number below 2^63, got -1"},
        Damage{R"({"w":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", "1",
               "w: header is not as the format says: expected a number below 2^63, got 1.0"},
        Damage{R"({"w":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", "",
               "w: shape is too large: expected less than 2^63 bytes, got (4294967296, 4294967296)"},
        Damage{R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", "1",
               "w: data_offsets are wrong: expected 2 numbers, got 1"},
        Damage{R"({"w":{"shape":[1],"data_offsets":[0,1]}})", "1", "w: dtype is missing"},
        Damage{R"({"w":{"dtype":"U8","data_offsets":[0,1]}})", "1", "w: shape is missing"},
        Damage{R"({"w":{"dtype":"U8","shape":[1]}})", "1", "w: data_offsets are missing"},
        Damage{R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", "1",
               "w: unknown key: expected dtype, shape or data_offsets, got x"},
        Damage{R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{}})", "1", "w: entry comes twice"},
        Damage{R"({"w":{"dtype":"U8","dtype":"U8"}})", "1", "w: key comes twice: got dtype"},
        Damage{R"({"__metadata__":{"a":["b"]}})", "",
               "a: header is not as the format says: expected a text, got a list"},
        Damage{R"({"w":7})", "", "w: header is not as the format says: expected an object, got 7"},
        Damage{R"({"w":)", "", "header is no valid JSON at byte 6"},
        Damage{R"([])", "", "not a safetensors file: header: expected an object, got something else"},
        Damage{"", "", "not a safetensors file: header: expected an object, got nothing"}));

TEST(Safetensors, ALengthBeyondTheFileOrTheLimitIsRefusedBeforeAnythingIsRead) {
  const std::string huge("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F{}", 10);
  EXPECT_EQ(message_of([&] { parse_safetensors(as_bytes(huge), "f"); }),
            "f: not a safetensors file: length of the header: expected at most 2 bytes, got 9223372036854775807 bytes");
  EXPECT_THAT(message_of([&] { parse_safetensors(as_bytes(std::string(3, 'x')), "f"); }), HasSubstr("is cut off"));
}

TEST(SafetensorsWriter, AlignsTheDataAndIsReadBackInTheGivenOrder) {
  const TemporaryDirectory folder;
  {
    SafetensorsWriter writer(folder / "x",
                             {{"odd", Dtype::u8, {3}}, {"wide", Dtype::i64, {1}}, {"none", Dtype::f32, {0, 2}}},
                             {{"key", "value \"quoted\""}});
    EXPECT_THAT(writer.order(), ElementsAre(1, 2, 0));
    writer.write(as_bytes("12345678"));
    writer.write({});
    writer.write(as_bytes("abc"));
    writer.finish();
  }
  const auto bytes = read_file(folder / "x");
  const auto file = parse_safetensors(as_bytes(bytes), "x");
  ASSERT_EQ(file.entries.size(), 3u);
  EXPECT_EQ(file.entries[0].name, "odd");
  EXPECT_EQ(as_text(file.entries[0].data), "abc");
  EXPECT_EQ(as_text(file.entries[1].data), "12345678");
  EXPECT_EQ((file.entries[1].data.data() - as_bytes(bytes).data()) % 8, 0);
  EXPECT_EQ(file.metadata.at("key"), "value \"quoted\"");
}

TEST(SafetensorsWriter, RefusesWrongSizesNamesThatComeTwiceAndMissingTensors) {
  const TemporaryDirectory folder;
  const auto path = folder / "x";
  EXPECT_THAT(message_of([&] { SafetensorsWriter(path, {{"a", Dtype::u8, {1}}, {"a", Dtype::u8, {1}}}, {}); }),
              HasSubstr("a: cannot be written: entry comes twice"));
  EXPECT_THAT(message_of([&] { SafetensorsWriter(path, {{"__metadata__", Dtype::u8, {1}}}, {}); }), HasSubstr("twice"));
  EXPECT_THAT(message_of([&] { SafetensorsWriter(path, {}, {{"key", "\xFF"}}); }), HasSubstr("no UTF-8 text"));
  EXPECT_THAT(message_of([&] { SafetensorsWriter(path, {{"a", Dtype::u8, {2}}}, {}).write(as_bytes("1")); }),
              HasSubstr("a: cannot be written: wrong size: expected 2 bytes, got 1 bytes"));
  EXPECT_THAT(message_of([&] { SafetensorsWriter(path, {{"a", Dtype::u8, {2}}}, {}).finish(); }),
              HasSubstr("a: cannot be written: tensor was not given"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));  // nothing half-written stays
}

// --- gzip and IDX --------------------------------------------------------------------------------------------------

std::string idx_bytes(int type, const std::vector<uint32_t>& sizes, const std::string& data) {
  std::string bytes{'\0', '\0', static_cast<char>(type), static_cast<char>(sizes.size())};
  for (const auto size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((size >> shift) & 0xFF);
  }
  return bytes + data;
}

IdxArray parse_bytes(const std::string& bytes) { return parse_idx({nullptr, as_bytes(bytes)}, "f"); }

TEST(Idx, PicturesAndLabelsAreReadPlainAndCompressed) {
  const TemporaryDirectory folder;
  const std::string pixels = "abcdefghijkl";
  for (const bool compressed : {false, true}) {
    const auto file = [&](const std::string& bytes) { return compressed ? gzip(bytes) : bytes; };
    write_file(folder / "grey", file(idx_bytes(8, {2, 2, 3}, pixels)));
    const auto grey = read_idx_images(folder / "grey");
    EXPECT_EQ(grey.count, 2);
    EXPECT_EQ(grey.channels, 1);
    EXPECT_EQ(as_text(grey.picture(1)), "ghijkl");
    write_file(folder / "colour", file(idx_bytes(8, {1, 2, 2, 3}, pixels)));
    const auto colour = read_idx_images(folder / "colour");
    EXPECT_EQ(colour.channels, 3);
    EXPECT_EQ(as_text(colour.picture(0)), pixels);
    write_file(folder / "labels", file(idx_bytes(8, {3}, std::string("\x00\x07\xFF", 3))));
    EXPECT_THAT(read_idx_labels(folder / "labels"), ElementsAre(0, 7, 255));
    write_file(folder / "labels", file(idx_bytes(12, {2}, std::string("\0\0\x03\xE7\0\0\0\x01", 8))));
    EXPECT_THAT(read_idx_labels(folder / "labels"), ElementsAre(999, 1));
  }
}

TEST(Idx, WhatIsNoPicturesOrLabelsIsRefused) {
  const TemporaryDirectory folder;
  write_file(folder / "x", idx_bytes(8, {4}, "abcd"));
  EXPECT_THAT(message_of([&] { read_idx_images(folder / "x"); }), HasSubstr("got uint8 (4)"));
  write_file(folder / "x", idx_bytes(8, {1, 1, 2, 2}, "abcd"));
  EXPECT_THAT(message_of([&] { read_idx_images(folder / "x"); }),
              HasSubstr("(N, height, width, 3), got uint8 (1, 1, 2, 2)"));
  write_file(folder / "x", idx_bytes(8, {1, 0, 2}, ""));
  EXPECT_THAT(message_of([&] { read_idx_images(folder / "x"); }), HasSubstr("pictures are empty"));
  write_file(folder / "x", idx_bytes(12, {1}, "\xFF\xFF\xFF\xFF"));
  EXPECT_THAT(message_of([&] { read_idx_labels(folder / "x"); }),
              HasSubstr("label 0: label: expected 0 or more, got -1"));
  write_file(folder / "x", idx_bytes(8, {1, 1}, "a"));
  EXPECT_THAT(message_of([&] { read_idx_labels(folder / "x"); }),
              HasSubstr("not an IDX file of labels: expected (N), got (1, 1)"));
}

TEST(Idx, SizesThatAreNotTheHeadersNameBoth) {
  EXPECT_EQ(message_of([] { parse_bytes(idx_bytes(8, {2, 2}, "abc")); }),
            "f: data has the wrong size: expected 4 bytes for (2, 2), got 3 bytes");
  EXPECT_EQ(message_of([] { parse_bytes(idx_bytes(8, {2, 2}, "abcde")); }),
            "f: data has the wrong size: expected 4 bytes for (2, 2), got 5 bytes");
  EXPECT_EQ(message_of([] { parse_bytes(gzip(idx_bytes(8, {2, 2}, "abc"))); }),
            "f: data has the wrong size: expected 4 bytes for (2, 2), got 3 bytes");
  EXPECT_EQ(message_of([] { parse_bytes(gzip(idx_bytes(8, {2, 2}, "abcde"))); }),
            "f: data has the wrong size: expected 4 bytes for (2, 2), got more bytes");
  EXPECT_THAT(message_of([] { parse_bytes(idx_bytes(8, {1u << 31, 1u << 31, 1u << 31}, "")); }),
              HasSubstr("array is too large"));
  EXPECT_THAT(message_of([] { parse_bytes(idx_bytes(9, {1}, "a")); }),
              HasSubstr("expected 0x08 (uint8) or 0x0C (int32), got 0x09"));
  EXPECT_THAT(message_of([] { parse_bytes("GIF89a.."); }),
              HasSubstr("not an IDX file: first bytes: expected 00 00, got 47 49"));
}

TEST(Idx, AGzipBombIsNotDecompressedBeyondTheHeadersSize) {
  const auto bomb = gzip(idx_bytes(8, {4}, std::string(50'000'000, '\0')));
  EXPECT_THAT(message_of([&] { parse_bytes(bomb); }), HasSubstr("expected 4 bytes for (4), got more bytes"));
}

TEST(Idx, AHeaderThatPromisesMoreThanGzipCanHoldAsksForNoMemory) {
  EXPECT_THAT(message_of([] { parse_bytes(gzip(idx_bytes(8, {60000, 1000, 1000}, "abc"))); }),
              HasSubstr("bytes at most"));
}

TEST(Gzip, SeveralMembersAreOneContentAndDamageIsNoticed) {
  const auto read_all = [](const std::string& file) {
    GzipReader reader(as_bytes(file), "f");
    std::vector<std::byte> out(100);
    out.resize(reader.read(out));
    return std::string(as_text(out));
  };
  const auto one = gzip("one ");
  EXPECT_EQ(read_all(one + gzip("two")), "one two");
  auto wrong_crc = one;
  wrong_crc[wrong_crc.size() - 5] ^= 1;
  EXPECT_EQ(message_of([&] { read_all(wrong_crc); }), "f: gzip stream is damaged after 4 bytes of content");
  EXPECT_EQ(message_of([&] { read_all(one.substr(0, one.size() - 1)); }),
            "f: gzip stream is cut off after 4 bytes of content");
  EXPECT_THAT(message_of([&] { read_all(one + "more"); }), HasSubstr("followed by something else: expected its end"));
}

}  // namespace
}  // namespace nextscale::testing
