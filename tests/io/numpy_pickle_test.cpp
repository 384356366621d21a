#include "nextscale/io/numpy_pickle.h"

#include <cstring>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nextscale/io/mapped_file.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/io/values.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/message_of.h"
#include "nextscale/tests/support/numpy_pickle.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::filesystem::path carried_pickle(const std::string& name) {
  return std::filesystem::path(NEXTSCALE_SOURCE_DIR) / "tests/corpus/numpy_pickle" / name;
}
std::vector<NumpyPickleEntry> parse_carried_numpy(const std::string& name) {
  return parse_numpy_pickle(map_file(carried_pickle(name)), name);
}
std::vector<NumpyPickleEntry> parse_numpy(const std::string& text) {
  return parse_numpy_pickle({nullptr, as_bytes(text)}, "p");
}
std::string pickle_message(const std::string& text) {
  return message_of([&] { parse_numpy(text); });
}

std::string bytes_of_floats(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}
TEST(NumpyPickle, ReadsWhatNumpyWrites) {
  for (const char* name : {"valid_arrays", "valid_fortran", "valid_big_endian"}) {
    SCOPED_TRACE(name);
    const auto entries = parse_carried_numpy(name);
    EXPECT_EQ(entries.front().name, "a");
    EXPECT_EQ(entries.front().array.dtype, Dtype::f32);
    EXPECT_EQ(entries.front().array.shape, (std::vector<int64_t>{2, 3, 4}));
    EXPECT_EQ(values_of<float>(entries.front().array), counted<float>(24));
  }
  for (const char* name : {"valid_lists", "valid_protocol_4", "valid_python_2"}) {
    SCOPED_TRACE(name);
    const auto entries = parse_carried_numpy(name);
    ASSERT_EQ(entries.size(), 4u);
    EXPECT_EQ(entries[0].name, "conv1/0");
    EXPECT_EQ(entries[0].array.shape, (std::vector<int64_t>{1, 1, 3, 4}));
    EXPECT_EQ(values_of<float>(entries[0].array), counted<float>(12));
    EXPECT_EQ(entries[3].name, "fire2/squeeze1x1/1");
    EXPECT_EQ(entries[3].array.shape, (std::vector<int64_t>{4}));
    EXPECT_EQ(values_of<float>(entries[3].array), counted<float>(4));
  }
  EXPECT_EQ(parse_carried_numpy("valid_types").size(), 12u);
}

TEST(NumpyPickle, ReadsWhatTheTestWrites) {
  const auto values = bytes_of_floats(counted<float>(6));
  const auto file = pickled_dict({{"one", pickled({.shape = {2, 3}, .bytes = values})},
                                  {"two", pickled_list({{.shape = {6}, .bytes = values},
                                                        {.shape = {3, 2}, .bytes = values, .fortran_order = true}})}});
  const auto entries = parse_numpy(file);
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "one");
  EXPECT_EQ(entries[1].name, "two/0");
  EXPECT_EQ(entries[2].name, "two/1");
  EXPECT_EQ(values_of<float>(entries[0].array), counted<float>(6));
  EXPECT_EQ(values_of<float>(entries[2].array), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  const TemporaryDirectory folder;
  write_file(folder / "x.pkl", file);
  const auto tensors = read_numpy_pickle(folder / "x.pkl");
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_TRUE(all_close(find_tensor(tensors, "one"), at::arange(6, at::kFloat).view({2, 3})));
  EXPECT_TRUE(all_close(find_tensor(tensors, "two/1"), at::arange(6, at::kFloat).view({2, 3}).t()));
  EXPECT_THAT(message_of([&] { read_numpy_pickle(folder / "y.pkl"); }), HasSubstr("y.pkl"));
}

TEST(NumpyPickle, RunsAndNamesNothingElse) {
  const auto values = bytes_of_floats(counted<float>(4));
  for (const char* maker :
       {"posix\nsystem", "builtins\neval", "numpy.core.multiarray\nscalar", "numpy._core.multiarray\n_reconstruct",
        "numpy\nload", "torch._utils\n_rebuild_tensor_v2"}) {
    auto named = std::string(maker);
    named[named.find('\n')] = '.';
    EXPECT_THAT(pickle_message(pickled_dict({{"a", pickled({.shape = {4}, .bytes = values, .maker = maker})}})),
                AllOf(StartsWith("p: pickle asks for code that is not run at byte "), HasSubstr("got " + named)));
  }
}

TEST(NumpyPickle, RefusesEveryTruncation) {
  const auto file =
      pickled_dict({{"a", pickled_list({{.shape = {2, 3}, .bytes = bytes_of_floats(counted<float>(6))}})}});
  EXPECT_EQ(pickle_message(file), "no error");
  for (size_t size = 0; size < file.size(); ++size) EXPECT_NE(pickle_message(file.substr(0, size)), "no error") << size;
  EXPECT_THAT(pickle_message(file + "x"), HasSubstr("p: bytes follow the pickle"));
}

TEST(NumpyPickle, RefusesEachHostileFileForItsOwnReason) {
  const std::pair<const char*, const char*> reasons[] = {
      {"system", "got posix.system"},
      {"system_in_dict", "got os.system"},
      {"scalar", "got numpy.core.multiarray.scalar"},
      {"new_numpy", "got numpy._core.multiarray._reconstruct"},
      {"frombuffer", "got numpy._core.numeric._frombuffer"},
      {"eval", "got builtins.eval"},
      {"objects", "a: values are damaged: expected bytes, got a list"},
      {"texts", "a: has another type"},
      {"structured", "a: structured types are not read"},
      {"complex", "a: has another type: expected bool, int8 to uint64 or float16 to float64, got '<c8'"},
      {"cut", "pickle is cut off"},
      {"no_stop", "pickle is cut off"},
      {"empty", "pickle is cut off"},
      {"trailing", "bytes follow the pickle"},
      {"two_pickles", "bytes follow the pickle"},
      {"array_alone", "not a dict of arrays: expected a dict, got an object"},
      {"list_alone", "not a dict of arrays: expected a dict, got a list"},
      {"number", "a: not an array: expected numpy.ndarray, got an integer"},
      {"nested", "a: not an array: expected numpy.ndarray, got a dict"},
      {"nested_list", "a/0: not an array: expected numpy.ndarray, got a list"},
      {"integer_key", "dict has another key: expected a text, got an integer"},
      {"name_long", "name is too long: expected at most 200 bytes, got 300 bytes"},
      {"name_twice", "a/0: two arrays have this name"},
      {"shape_larger", "a: values have the wrong size: expected 20 bytes for float32 (5), got 16 bytes"},
      {"shape_smaller", "a: values have the wrong size: expected 12 bytes for float32 (3), got 16 bytes"},
      {"shape_negative", "a: shape may not be negative: got -4"},
      {"shape_overflow", "a: shape is too large: expected less than 2^63 bytes"},
      {"shape_beyond_64_bits", "a: shape does not fit 64 bits"},
      {"shape_70_dimensions", "a: shape has too many dimensions"},
      {"shape_text", "a: shape is damaged: expected a tuple, got a text"},
      {"shape_real", "a: shape is damaged: expected an integer, got a real"},
      {"no_state", "a: array is damaged: expected a state of 5 values, got none"},
      {"state_number", "a: array is damaged: expected a state of 5 values, got an integer"},
      {"state_short", "a: array is damaged: expected a state of 5 values, got a tuple"},
      {"state_cyclic", "a: version is damaged: expected an integer, got an object"},
      {"version", "a: unknown version of an array: expected 1, got 2"},
      {"type_no_state", "a: type is damaged: expected a state of 5 values, got none"},
      {"type_subarray", "a: structured types are not read"},
      {"byte_order", "a: has another type"},
      {"order_text", "a: order is damaged: expected a truth value, got a text"},
      {"values_list", "a: values are damaged: expected bytes, got a list"},
      {"values_claim", "pickle is cut off"},
      {"array_for_type", "a: type is damaged: expected numpy.dtype, got an object"},
      {"type_for_array", "a: not an array"},
      {"truth_2", "a: truth values hold another byte"},
      {"laughs", "arrays are larger than their file"},
      {"laughs_one_array", "a/10000: file holds too many arrays"},
  };
  size_t hostile = 0;
  for (const auto& file : std::filesystem::directory_iterator(carried_pickle({}))) {
    hostile += file.path().filename().string().starts_with("hostile_") ? 1 : 0;
  }
  EXPECT_EQ(hostile, std::size(reasons));
  for (const auto& [name, reason] : reasons) {
    const auto file = "hostile_" + std::string(name);
    EXPECT_THAT(message_of([&] { parse_carried_numpy(file); }), AllOf(StartsWith(file + ": "), HasSubstr(reason)));
  }
}

}  // namespace
}  // namespace nextscale::testing
