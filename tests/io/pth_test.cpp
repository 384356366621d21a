#include <fstream>
#include <set>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nextscale/io/weights.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/failing_files.h"
#include "nextscale/tests/support/fixtures.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

fs::path carried_pth(const std::string& name) { return fs::path(NEXTSCALE_SOURCE_DIR) / "tests/corpus/pth" / name; }

at::Tensor tensor_in(const std::string& file, const std::string& name) {
  return find_tensor(read_weights(carried_pth(file)).tensors, name);
}

std::string type_name(const at::Tensor& tensor) {
  static const std::map<at::ScalarType, std::string> kNames{
      {at::kDouble, "float64"}, {at::kFloat, "float32"}, {at::kHalf, "float16"},  {at::kBFloat16, "bfloat16"},
      {at::kLong, "int64"},     {at::kInt, "int32"},     {at::kShort, "int16"},   {at::kChar, "int8"},
      {at::kByte, "uint8"},     {at::kBool, "bool"},     {at::kUInt16, "uint16"}, {at::kUInt32, "uint32"},
      {at::kUInt64, "uint64"}};
  return kNames.at(tensor.scalar_type());
}

// --- every file of the index that comes with a larger set of fixtures
// ---------------------------------------------------

class PthIndex : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fixture_file("pth");
    if (!fs::exists(folder_ / "index.json")) GTEST_SKIP() << "no pth/index.json among the fixtures";
    std::ifstream in(folder_ / "index.json");
    // infinities are Python's, not JSON's
    std::string text(std::istreambuf_iterator<char>(in), {});
    for (const auto& [from, to] : {std::pair{": -Infinity", ": \"-inf\""}, {", -Infinity", ", \"-inf\""}}) {
      for (size_t at; (at = text.find(from)) != text.npos;) text.replace(at, std::string(from).size(), to);
    }
    index_ = nlohmann::json::parse(text, nullptr, false);
    ASSERT_FALSE(index_.is_discarded());
  }
  fs::path folder_;
  nlohmann::json index_;
};

double number(const nlohmann::json& value) {
  return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>();
}

void expect_tensor(const nlohmann::json& expected, const at::Tensor& found) {
  ASSERT_TRUE(found.defined());
  EXPECT_EQ(type_name(found), expected.at("dtype").get<std::string>());
  EXPECT_EQ(found.sizes().vec(), expected.at("shape").get<std::vector<int64_t>>());
  EXPECT_TRUE(found.is_contiguous());
  const auto flat = found.to(at::kDouble).flatten();
  const auto& first = expected.at("first");
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(flat[static_cast<int64_t>(i)].item<double>(), number(first[i]));
  }
  const auto sum = flat.sum().item<double>(), wanted = number(expected.at("sum"));
  // the order of summation is free
  EXPECT_TRUE(sum == wanted || std::abs(sum - wanted) <= 1e-12 * (1 + flat.abs().sum().item<double>())) << sum;
}

void expect_value(const nlohmann::json& expected, const std::string& found) {
  if (expected.is_string()) {
    EXPECT_EQ(found, expected.get<std::string>());
  } else if (expected.is_number_float()) {
    EXPECT_EQ(std::stod(found), expected.get<double>());
  } else {
    EXPECT_EQ(nlohmann::json::parse(found), expected);
  }
}

TEST_F(PthIndex, EveryFileThatMustLoadHasItsExactContent) {
  int tensors = 0, values = 0;
  for (const auto& entry : index_.at("load")) {
    const auto name = entry.at("file").get<std::string>();
    SCOPED_TRACE(name);
    const auto file = read_pth(folder_ / name);
    std::vector<std::string> order, expected_order;
    for (const auto& [path, tensor] : file.tensors) order.push_back(path);
    for (const auto& each : entry.at("content")) {
      const auto path = each.at("path").get<std::string>();
      SCOPED_TRACE(path);
      if (each.contains("value")) {
        ASSERT_TRUE(file.metadata.contains(path));
        expect_value(each.at("value"), file.metadata.at(path));
        ++values;
      } else {
        expect_tensor(each, find_tensor(file.tensors, path));
        expected_order.push_back(path);
        ++tensors;
      }
    }
    EXPECT_EQ(order, expected_order);
    EXPECT_EQ(read_weights(folder_ / name).tensors.size(), file.tensors.size());
  }
  EXPECT_GT(tensors, 100);
  EXPECT_GT(values, 50);
}

TEST_F(PthIndex, EveryFileThatMustBeRefusedIsForItsKindOfReason) {
  const std::map<std::string, std::string> words{{"forbidden_global", "code that is not run"},
                                                 {"unsupported_storage", "unsupported storage type"},
                                                 {"truncated", "cut off"},
                                                 {"malformed_pickle", "pickle "},
                                                 {"missing_storage", "its storage is not in the file"},
                                                 {"out_of_bounds", "reaches beyond its storage"},
                                                 {"absurd_size", "larger than its file explains"},
                                                 {"negative", "may not be negative"},
                                                 {"malformed_tensor", "shape and strides differ"},
                                                 {"too_deep", "nests too deeply"},
                                                 {"cyclic", "cyclic"},
                                                 {"byteorder", "byte order"}};
  for (const auto& entry : index_.at("refuse")) {
    const auto name = entry.at("file").get<std::string>(), kind = entry.at("kind").get<std::string>();
    SCOPED_TRACE(name);
    const auto message = message_of([&] { EXPECT_TRUE(read_weights(folder_ / name).tensors.empty()); });
    if (kind == "not_a_state_dict") {  // no tensor in it: whoever loads a model misses all
      EXPECT_EQ(message, "no error");
      continue;
    }
    EXPECT_NE(message, "no error");
    EXPECT_THAT(message, HasSubstr(name + ": "));
    if (kind == "overflow") {
      EXPECT_TRUE(message.find("overflow") != message.npos || message.find("does not fit") != message.npos) << message;
    } else if (kind == "storage_too_small") {
      EXPECT_TRUE(message.find("has another size") != message.npos || message.find("in two ways") != message.npos);
    } else if (kind == "not_a_checkpoint") {
      EXPECT_TRUE(message.find("nor a PyTorch file") != message.npos ||
                  message.find("not a PyTorch file") != message.npos);
    } else {
      EXPECT_THAT(message, HasSubstr(words.at(kind)));
    }
  }
  EXPECT_FALSE(fs::exists("PWNED"));
}

// --- carried files
// -----------------------------------------------------------------------------------------------------

TEST(Pth, TensorsOfBothFormsHaveTheirValues) {
  for (const char* file : {"valid_views", "valid_views_legacy"}) {
    const auto tensors = read_weights(carried_pth(file)).tensors;
    const auto whole = at::arange(24, at::kFloat).reshape({4, 6});
    const NamedTensors expected{{"whole", whole},
                                {"transposed", whole.t()},
                                {"window", whole.slice(0, 1, 3).slice(1, 2, 5)},
                                {"every_second", whole.flatten().slice(0, 1, 24, 2)},
                                {"expanded", whole.slice(1, 0, 1)[0].expand({3, 2})},
                                {"again", whole},
                                {"last", whole[3]}};
    ASSERT_EQ(tensors.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(tensors[i].first, expected[i].first);
      EXPECT_TRUE(tensors[i].second.is_contiguous());
      EXPECT_TRUE(all_close(tensors[i].second, expected[i].second)) << file << ": " << expected[i].first;
    }
  }
  EXPECT_TRUE(all_close(tensor_in("valid_python2_legacy", "w"), at::arange(3, 5).to(at::kFloat)));
  EXPECT_TRUE(all_close(tensor_in("valid_cuda_legacy", "w"), at::arange(3, 5).to(at::kFloat)));  // stored on "cuda:0"
  EXPECT_TRUE(all_close(tensor_in("valid_zip64", "w"), at::arange(1, 5).to(at::kFloat).reshape({2, 2})));
  EXPECT_TRUE(all_close(tensor_in("valid_deflated", "w"), at::arange(1, 5).to(at::kFloat).reshape({2, 2})));
  EXPECT_EQ(read_weights(carried_pth("valid_plain")).metadata, (std::map<std::string, std::string>{{"source", "pth"}}));
  EXPECT_TRUE(read_weights(carried_pth("valid_text")).tensors.empty());
}

TEST(Pth, EveryTypeIsRead) {
  const auto tensors = read_weights(carried_pth("valid_types")).tensors;
  const auto expected = at::tensor({0, 1, 1, 0, 1}, at::kDouble);
  std::set<std::string> types;
  for (const auto& [name, tensor] : tensors) {
    if (name == "scalar" || name == "empty") continue;
    EXPECT_EQ(type_name(tensor), name);
    EXPECT_TRUE(all_close(tensor.to(at::kDouble), expected)) << name;
    types.insert(name);
  }
  EXPECT_EQ(types.size(), 13u);
  EXPECT_EQ(find_tensor(tensors, "scalar").item<double>(), 2.5);
  EXPECT_EQ(find_tensor(tensors, "scalar").dim(), 0);
  EXPECT_EQ(find_tensor(tensors, "empty").sizes().vec(), (std::vector<int64_t>{0, 3}));
}

TEST(Pth, TensorsOfOneStorageShareItAndChangesStayOutOfTheFile) {
  for (const char* name : {"valid_views", "valid_views_legacy"}) {
    const TemporaryDirectory folder;
    fs::copy_file(carried_pth(name), folder / "x");
    const auto before = read_file(folder / "x");
    auto tensors = read_weights(folder / "x").tensors;
    fs::remove(folder / "x");
    write_file(folder / "x", before);
    find_tensor(tensors, "again").fill_(7);
    EXPECT_EQ(find_tensor(tensors, "whole").sum().item<double>(), 7 * 24) << name;
    EXPECT_EQ(find_tensor(tensors, "last").sum().item<double>(), 7 * 6) << name;
    EXPECT_EQ(read_file(folder / "x"), before);
  }
}

TEST(Pth, ReadPthKeepsPlainValuesAndASectionIsOneModel) {
  const auto file = read_pth(carried_pth("valid_nested"));
  EXPECT_EQ(file.metadata.at("source"), "pth");
  EXPECT_EQ(file.metadata.at("iter"), "1099511627776");
  EXPECT_EQ(file.metadata.at("trainer/config/sides"), "[1, 2, 3]");
  const auto model = section(file.tensors, "trainer/model");
  ASSERT_EQ(model.size(), 2u);
  EXPECT_EQ(model[0].first, "a");
  EXPECT_EQ(model[1].first, "b");
  EXPECT_TRUE(section(file.tensors, "trainer/mod").empty());
  EXPECT_EQ(section(file.tensors, "trainer").size(), 4u);
}

TEST(Pth, ContentTellsTheFormatAndAStrangerIsNamed) {
  const TemporaryDirectory folder;
  const auto path = folder / "model.safetensors";
  const auto message = [&](const std::string& text) {
    write_file(path, text);
    return message_of([&] { read_weights(path); });
  };
  fs::copy_file(carried_pth("valid_plain"), path);
  EXPECT_EQ(read_weights(path).tensors.size(), 1u);
  fs::remove(path);
  const std::string said = "model.safetensors: neither safetensors nor a PyTorch file: got ";
  EXPECT_THAT(message(""), HasSubstr(said + "an empty file"));
  EXPECT_THAT(message("<!DOCTYPE html>\n<html>"), HasSubstr(said + "a file that begins with \"<!DOCTYPE html>\""));
  EXPECT_THAT(message("version https://git-lfs.github.com/spec/v1\noid"),
              HasSubstr(said + "a file that begins with \"version https://git-lfs.github.com/spec/v1\""));
  EXPECT_THAT(message(std::string("\0\1\xFF", 3)), HasSubstr(said + "a file that begins with \"\\x00\\x01\\xff\""));
  EXPECT_THAT(message("PK\x03\x04"), HasSubstr("zip archive is cut off"));
  // a safetensors header of 640 bytes begins as a pickle of protocol 2 does
  NamedTensors tensors{{"w", at::ones({2})}};
  for (size_t length = 500; length < 640; ++length) {
    write_weights(path, {tensors, {{"note", std::string(length, 'n')}}});
    EXPECT_EQ(read_weights(path).tensors.size(), 1u);
  }
}

// --- writing
// -----------------------------------------------------------------------------------------------------------

NamedTensors all_kinds() {
  NamedTensors tensors;
  for (const auto type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
                          at::kFloat, at::kDouble, at::kUInt16, at::kUInt32, at::kUInt64}) {
    tensors.emplace_back(fmt::format("größe.t{}", static_cast<int>(type)), at::arange(7).remainder(2).to(type));
  }
  tensors.emplace_back("transposed", at::arange(6, at::kFloat).reshape({2, 3}).t());
  tensors.emplace_back("scalar", at::scalar_tensor(2.5));
  tensors.emplace_back("empty", at::empty({0, 4}));
  tensors.emplace_back("leaf", at::ones({2}).requires_grad_());
  tensors.emplace_back("", at::zeros({1, 1, 3}));
  return tensors;
}

TEST(Pth, WhatIsWrittenComesBackBitForBitInOrder) {
  const TemporaryDirectory folder;
  for (const auto& tensors : {all_kinds(), NamedTensors{}}) {
    write_pth(folder / "x.pth", tensors);
    const auto read = read_weights(folder / "x.pth").tensors;
    ASSERT_EQ(read.size(), tensors.size());
    for (size_t i = 0; i < read.size(); ++i) {
      EXPECT_EQ(read[i].first, tensors[i].first);
      EXPECT_EQ(read[i].second.scalar_type(), tensors[i].second.scalar_type());
      EXPECT_TRUE(all_close(read[i].second.to(at::kDouble), tensors[i].second.detach().to(at::kDouble)))
          << tensors[i].first;
      EXPECT_TRUE(read[i].second.numel() == 0 || reinterpret_cast<uintptr_t>(read[i].second.data_ptr()) % 64 == 0);
    }
  }
}

TEST(Pth, WhatTheFormatCannotHoldIsRefused) {
  const TemporaryDirectory folder;
  const auto message = [&](const NamedTensors& tensors) {
    return message_of([&] { write_pth(folder / "x", tensors); });
  };
  EXPECT_THAT(message({{"c", at::zeros({1}, at::kComplexFloat)}}),
              HasSubstr("x: c: cannot be written: our .pth has no such type: got ComplexFloat"));
  EXPECT_THAT(message({{"u", at::Tensor()}}), HasSubstr("x: u: cannot be written: tensor is undefined"));
  EXPECT_THAT(message({{"w", at::ones({1})}, {"w", at::ones({1})}}),
              HasSubstr("x: w: cannot be written: entry comes twice"));
  EXPECT_THAT(message({{"\xFF", at::ones({1})}}), HasSubstr("cannot be written: name is no UTF-8 text"));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Pth, AFailureAtAnyOperationLeavesTheOldFileAndOneClearError) {
  const auto weights = [](double value) { return NamedTensors{{"w", at::full({3, 5}, value)}, {"b", at::ones({2})}}; };
  int operations = 0;
  for (const bool crash : {false, true}) {
    for (int fail_at = 0;; ++fail_at) {
      const TemporaryDirectory folder;
      const auto path = folder / "model.pth";
      write_pth(path, weights(1));
      FailingFiles files(fail_at, crash);
      std::string message = "no error";
      try {
        write_pth(path, weights(2), files);
      } catch (const Error& error) {
        message = error.what();
      }
      if (files.calls <= fail_at) break;  // every operation has had its turn
      operations = std::max(operations, fail_at + 1);
      const auto found = find_tensor(read_weights(path).tensors, "w").mean().item<double>();  // throws if damaged
      EXPECT_TRUE(found == 1 || found == 2);
      SCOPED_TRACE(fmt::format("operation {}: {}", fail_at, message));
      EXPECT_TRUE(message != "no error" || found == 2);
      EXPECT_TRUE(message == "no error" || message.find("model.pth: cannot be ") != message.npos || found == 2);
      EXPECT_TRUE(message == "no error" || message.find(": No space left on device") != message.npos);
      const auto left = std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator());
      EXPECT_TRUE(crash || left == 1);
    }
  }
  EXPECT_GE(operations, 20);
}

}  // namespace
}  // namespace nextscale::testing
