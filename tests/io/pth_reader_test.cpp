#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/io/mapped_file.h"
#include "nextscale/io/pickle.h"
#include "nextscale/io/pickle_text.h"
#include "nextscale/io/pth.h"
#include "nextscale/tests/fuzz/one_pth.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::filesystem::path carried(const std::string& name) {
  return std::filesystem::path(NEXTSCALE_SOURCE_DIR) / "tests/corpus/pth" / name;
}

std::vector<std::string> seeds(const std::string& kind) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(carried({}))) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(kind)) names.push_back(name);
  }
  return names;
}

PthFile parse_carried(const std::string& name) { return parse_pth(map_file(carried(name)), name); }

std::string value_in(const PthFile& file, const std::string& path) {
  for (const auto& value : file.values) {
    if (value.path == path) return value.text;
  }
  return "no such value";
}

PickleTree parse_text(std::string_view text) {
  return parse_pickle(as_bytes(text), "p", [](std::string_view name) { return name == "a.b"; });
}
std::string message_for(std::string_view text) {
  return message_of([&] { parse_text(text); });
}

// --- files -----------------------------------------------------------------------------------------------------------

TEST(PthReader, ReadsEveryCarriedValidFileAndRefusesEveryHostileOne) {
  const auto valid = seeds("valid_"), hostile = seeds("hostile_");
  ASSERT_GE(valid.size(), 20u);
  ASSERT_GE(hostile.size(), 80u);
  for (const auto& name : valid) {
    EXPECT_EQ(message_of([&] { parse_pth(map_file(carried(name)), name, ZipChecksums::always); }), "no error") << name;
  }
  for (const auto& name : hostile) {
    const auto message = message_of([&] { parse_carried(name); });
    EXPECT_EQ(message.find(name + ": "), 0u) << message;
    EXPECT_LT(message.size(), 700u) << message;
  }
  for (const auto& name : seeds("crash_")) one_pth(as_bytes(read_file(carried(name))));
}

TEST(PthReader, RefusesEachHostileFileForItsOwnReason) {
  const std::pair<const char*, const char*> reasons[] = {
      {"code_system",
       "archive/data.pkl: pickle asks for code that is not run at byte 140: expected tensors and plain "
       "values, got posix.system"},
      {"code_legacy", "got builtins.eval"},
      {"code_inst", "got posix.system"},
      {"code_stack_global", "got posix.system"},
      {"class", "got argparse.Namespace"},
      {"numpy", "got numpy.core.multiarray.scalar"},
      {"storage_type",
       "w: unsupported storage type: expected torch.FloatStorage or another real, integer or bool one, "
       "got torch.QInt8Storage"},
      {"storage_missing", "w: its storage is not in the file: expected storage 0"},
      {"storage_traversal", "w: its storage is not in the file: expected storage ../version"},
      {"storage_short", "w: storage 0 has another size: expected 16 bytes (4 values of torch.float32), got 8 bytes"},
      {"storage_two_types", "b: storage 0 is used in two ways"},
      {"storage_two_sizes", "b: storage 0 is used in two ways"},
      {"storage_negative", "w: size of its storage may not be negative: got -4"},
      {"storage_overflow", "w: size of its storage overflows"},
      {"storage_beyond_64_bits", "w: size of its storage does not fit 64 bits: got 18446744073709551620"},
      {"storage_view", "view reaches beyond its storage"},
      {"beyond_shape",
       "w: tensor reaches beyond its storage: expected at most 4 values, got shape (3, 3), strides (3, "
       "1) from value 0"},
      {"beyond_offset", "w: tensor reaches beyond its storage"},
      {"beyond_stride", "w: tensor reaches beyond its storage"},
      {"shape_negative", "w: shape may not be negative: got -2"},
      {"shape_overflow", "w: shape's product overflows 64 bits"},
      {"shape_empty_overflow", "w: shape's product overflows 64 bits"},
      {"shape_beyond_64_bits", "w: shape does not fit 64 bits: got 18446744073709551618"},
      {"shape_expanded", "w: tensor is larger than its file explains"},
      {"shape_ranks", "w: shape and strides differ in length: expected 2, got 1"},
      {"stride_negative", "w: strides may not be negative: got -2"},
      {"stride_overflow", "w: strides overflow 64 bits"},
      {"offset_negative", "w: offset may not be negative: got -1"},
      {"tensor_negated", "w: tensor is a negated or conjugate view"},
      {"name_twice", "a/b: two tensors have this name"},
      {"key_tuple", "dict has a key that cannot be part of a name: expected a text or an integer, got a tuple"},
      {"deep_lists", "file nests too deeply: expected at most 100 levels"},
      {"deep_tuples", "file nests too deeply"},
      {"deep_dicts", "file nests too deeply"},
      {"cyclic_list", "0: file is cyclic"},
      {"cyclic_dict", "a: file is cyclic"},
      {"laughs", "file holds too many values"},
      {"string_claim", "pickle is cut off at byte 2: expected 1152921504606846976 bytes, got 4 bytes"},
      {"memo_missing", "pickle takes a memo that was not written at byte 2: got 7"},
      {"memo_far", "pickle's memo number is too large"},
      {"stack_underflow", "pickle takes a value that is not there"},
      {"no_stop", "pickle is cut off"},
      {"opcode", "pickle holds an operation that is not read at byte 2: expected one of protocols 2 to 5, got 0xff"},
      {"protocol", "pickle protocol cannot be read at byte 0: expected 2 to 5, got 6"},
      {"pickle_missing", "not a PyTorch file: expected a zip archive with data.pkl"},
      {"torchscript", "a TorchScript archive"},
      {"big_endian", "byte order cannot be read: expected little, got big"},
      {"big_endian_legacy", "byte order cannot be read: expected little, got big"},
      {"legacy_magic", "a pickle, but not one of PyTorch"},
      {"legacy_cut", "storage is cut off: expected 16 bytes"},
      {"legacy_size", "storage 0: storage has another size: expected 4 values, got 5 values"},
      {"empty", "not a PyTorch file: expected a zip archive or a pickle, got an empty file"},
      {"zip_cut", "zip archive is cut off"},
      {"zip_encrypted", "expected stored or deflated, got encrypted"},
      {"zip_name_twice", "archive/data.pkl: zip archive holds this name twice"},
      {"zip_bomb_claim", "zip archive announces more content than it can hold"},
      {"zip_inflates_more", "compressed content is damaged"}};
  for (const auto& [name, reason] : reasons) {
    EXPECT_THAT(message_of([&] { parse_carried(std::string("hostile_") + name); }), HasSubstr(reason));
  }
}

TEST(PthReader, NamesTensorsAndValuesByTheirPlaceInTheOrderOfTheFile) {
  for (const char* name : {"valid_nested", "valid_nested_legacy"}) {
    const auto file = parse_carried(name);
    std::vector<std::string> paths;
    for (const auto& entry : file.tensors) paths.push_back(entry.path);
    EXPECT_THAT(paths,
                ElementsAre("trainer/model/a", "trainer/model/b", "trainer/state/0/step", "trainer/state/1/step"));
    EXPECT_EQ(file.values.size(), 17u);
    EXPECT_EQ(file.values[0].path, "epoch");
    EXPECT_EQ(value_in(file, "iter"), "1099511627776");
    EXPECT_EQ(value_in(file, "huge"), "-1180591620717411303424");
    EXPECT_EQ(value_in(file, "trainer/config/sides"), "[1, 2, 3]");
    EXPECT_EQ(value_in(file, "trainer/config/lr"), "0.0001");
    EXPECT_EQ(value_in(file, "trainer/config/on"), "true");
    EXPECT_EQ(value_in(file, "trainer/config/none"), "null");
    EXPECT_EQ(value_in(file, "trainer/config/name"), "größe");
    EXPECT_EQ(value_in(file, "trainer/config/shape"), "[2, 3]");
    EXPECT_EQ(value_in(file, "trainer/config/device"), "cuda:1");
    EXPECT_EQ(value_in(file, "trainer/config/dtype"), "torch.bfloat16");
    EXPECT_EQ(value_in(file, "trainer/config/many"), "list of 100 values");
    EXPECT_EQ(value_in(file, "trainer/config/set"), "[7]");
    EXPECT_EQ(value_in(file, "trainer/groups/0/params"), "[0, 1]");
  }
  EXPECT_EQ(value_in(parse_carried("valid_python2_legacy"), "n"), "5000000000");
  EXPECT_EQ(parse_carried("valid_tensor_alone").tensors.at(0).path, "tensor");
}

TEST(PthReader, StoredTensorsPointIntoTheFileAndViewsOfOneStorageShareIt) {
  const auto bytes = map_file(carried("valid_views"));
  const auto file = parse_pth(bytes, "x");
  ASSERT_EQ(file.tensors.size(), 7u);
  for (const auto& [path, tensor] : file.tensors) {
    EXPECT_EQ(tensor.storage.bytes.data(), file.tensors[0].tensor.storage.bytes.data()) << path;
    EXPECT_GE(tensor.data().data(), bytes.bytes.data());
    EXPECT_LE(tensor.data().data() + tensor.data().size(), bytes.bytes.data() + bytes.bytes.size());
    EXPECT_EQ(tensor.contiguous(), path == "whole" || path == "again" || path == "last") << path;
  }
  EXPECT_EQ(file.tensors[2].tensor.offset, 8);
  EXPECT_THAT(file.tensors[2].tensor.strides, ElementsAre(6, 1));
}

TEST(PthReader, StridesOfSidesOfOneDoNotMatter) {
  const std::vector<std::byte> bytes(64);
  const PthTensor tensor{Dtype::f32, {2, 1, 3}, {3, 99, 1}, 4, {nullptr, bytes}};
  EXPECT_TRUE(tensor.contiguous());
  EXPECT_EQ(tensor.data().data(), bytes.data() + 16);
  EXPECT_EQ(tensor.data().size(), 24u);
  EXPECT_FALSE((PthTensor{Dtype::f32, {2, 1, 3}, {4, 3, 1}, 0, {nullptr, bytes}}.contiguous()));
  EXPECT_TRUE((PthTensor{Dtype::f32, {2, 0}, {7, 7}, 99, {nullptr, bytes}}.data().empty()));
}

TEST(PthReader, ChecksumsOfThePickleAreComparedAndOfTensorsOnRequest) {
  auto bytes = read_file(carried("valid_plain"));
  const auto name = bytes.find("X\x01"), value = bytes.find(std::string("\0\0\x80\x3F", 4));
  ASSERT_TRUE(name != bytes.npos && value != bytes.npos);
  auto other_name = bytes, other_value = bytes;
  other_name[name + 5] = 'v';
  other_value[value] = 1;
  const auto parse = [](const std::string& text, ZipChecksums checksums) {
    return message_of([&] { parse_pth({nullptr, as_bytes(text)}, "x", checksums); });
  };
  EXPECT_EQ(parse(other_name, ZipChecksums::compressed), "x: archive/data.pkl: content differs from its checksum");
  EXPECT_EQ(parse(other_name, ZipChecksums::never), "no error");
  EXPECT_EQ(parse(other_value, ZipChecksums::compressed), "no error");
  EXPECT_EQ(parse(other_value, ZipChecksums::always), "x: archive/data/0: content differs from its checksum");
}

// --- pickles ---------------------------------------------------------------------------------------------------------

TEST(Pickle, AMillionNestedListsNeedNoStackToReadOrToForget) {
  const auto tree = parse_text("\x80\x02" + std::string(1'000'000, ']') + std::string(999'999, 'a') + ".");
  EXPECT_EQ(tree.nodes.size(), 1'000'000u);
  EXPECT_EQ(tree.at(tree.root).parts().size(), 1u);
}

TEST(Pickle, AMillionCopiesOfOneListAreRefused) {
  std::string text = "\x80\x02](" + std::string(10'000, 'N') + "eq" + std::string(1, '\0') + "0";
  for (int i = 0; i < 1000; ++i) text += std::string("cbuiltins\nset\n(h\0tR", 19);
  EXPECT_THAT(message_for(text + "."), HasSubstr("p: pickle holds too many values at byte"));
}

TEST(Pickle, IntegersOfAnyLengthComeWhole) {
  const auto integer = [](std::string_view text) {
    const auto tree = parse_text(text);
    const auto& node = tree.at(tree.root);
    return node.kind == PickleKind::integer ? fmt::format("{}", node.integer()) : std::string(node.text());
  };
  using namespace std::string_view_literals;
  EXPECT_EQ(integer("\x8a\x00."sv), "0");
  EXPECT_EQ(integer("\x8a\x01\xFF."sv), "-1");
  EXPECT_EQ(integer("\x8a\x02\xFF\x00."sv), "255");
  EXPECT_EQ(integer("J\xFE\xFF\xFF\xFF."sv), "-2");
  EXPECT_EQ(integer("K\xFF."sv), "255");
  EXPECT_EQ(integer("M\xFF\xFF."sv), "65535");
  EXPECT_EQ(integer("\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."sv), "-9223372036854775808");
  EXPECT_EQ(integer("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00."sv), "9223372036854775808");
  EXPECT_EQ(integer("\x8b\x09\x00\x00\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F\xFF."sv), "-9223372036854775809");
  EXPECT_EQ(integer("I-12\n."sv), "-12");
}

TEST(Pickle, CallsOfTheAllowListStayNamesWithArguments) {
  const auto tree = parse_text(
      "\x80\x02"
      "ca\nb\nK\x01K\x02\x86R.");
  const auto& call = tree.at(tree.root);
  ASSERT_EQ(call.kind, PickleKind::object);
  EXPECT_EQ(tree.at(call.parts()[0]).text(), "a.b");
  EXPECT_EQ(tree.at(call.parts()[1]).parts().size(), 2u);
  EXPECT_THAT(message_for("\x80\x02"
                          "ca\nc\n."),
              HasSubstr("got a.c"));
}

TEST(PickleText, AcceptsWellFormedUtf8Only) {
  for (const char* good : {"", "plain", "größe", "日本", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF"}) {
    EXPECT_TRUE(is_utf8(good)) << good;
  }
  for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE0\x80\x80", "\xE2\x82", "\xED\xA0\x80",
                          "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "a\xC3z"}) {
    EXPECT_FALSE(is_utf8(bad)) << printable(bad, 100);
  }
  EXPECT_EQ(printable("a\n\xFF" + std::string(10, 'b'), 5), "a\\x0a\\xffbb...");
}

}  // namespace
}  // namespace nextscale::testing
