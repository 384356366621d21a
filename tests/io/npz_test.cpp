#include "nextscale/io/npz.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "nextscale/io/bytes.h"
#include "nextscale/io/mapped_file.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/io/values.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

fs::path carried_npz(const std::string& name) { return fs::path(NEXTSCALE_SOURCE_DIR) / "tests/corpus/npz" / name; }

/// (2, 3, 4) float32 that counts up, as the carried files hold it.
void expect_counted(const NpyArray& array) {
  EXPECT_EQ(array.dtype, Dtype::f32);
  EXPECT_EQ(array.shape, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(values_of<float>(array), counted<float>(24));
}

TEST(Npz, ReadsWhatNumpyWrites) {
  for (const char* name : {"valid_savez", "valid_fortran", "valid_big_endian", "valid_versions"}) {
    SCOPED_TRACE(name);
    NpzFile file(carried_npz(name));
    expect_counted(file.array("a"));
  }
  NpzFile compressed(carried_npz("valid_savez_compressed"));
  EXPECT_EQ(compressed.names(), (std::vector<std::string>{"a", "empty"}));
  EXPECT_EQ(compressed.array("a").shape, (std::vector<int64_t>{5, 12}));
  EXPECT_EQ(values_of<int16_t>(compressed.array("a")), counted<int16_t>(60));
  EXPECT_EQ(compressed.array("empty").shape, (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(compressed.array("empty").dtype, Dtype::f16);
  NpzFile with_text(carried_npz("valid_comment_and_text"));
  EXPECT_EQ(with_text.names(), std::vector<std::string>{"a"});
  EXPECT_TRUE(with_text.array("a").shape.empty());
}

TEST(Npz, EveryTypeThatIsWrittenComesBackBitForBit) {
  const TemporaryDirectory folder;
  std::string bytes(64, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 37);
  const std::string truth(8, '\1');
  const std::vector<Dtype> dtypes = {Dtype::f64, Dtype::f32, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::i16,
                                     Dtype::i8,  Dtype::u64, Dtype::u32, Dtype::u16, Dtype::u8,  Dtype::boolean};
  const auto content = [&](Dtype dtype) {
    const auto all = as_bytes(dtype == Dtype::boolean ? truth : bytes);
    return all.first(8 * static_cast<size_t>(item_bytes(dtype)));
  };
  NpzWriter writer(folder / "x.npz");
  for (const auto dtype : dtypes) {
    writer.begin(std::string(numpy_name(dtype)), dtype, {2, 1, 4});
    writer.write(content(dtype));
  }
  writer.finish();
  NpzFile file(folder / "x.npz");
  for (const auto dtype : dtypes) {
    const auto& array = file.array(std::string(numpy_name(dtype)));
    EXPECT_EQ(array.dtype, dtype);
    EXPECT_EQ(array.shape, (std::vector<int64_t>{2, 1, 4}));
    EXPECT_EQ(as_text(array.data.bytes), as_text(content(dtype)));
  }
}

/// The real disk, but large pieces become holes: gigabytes that cost nothing.
class SparseFiles : public FileOperations {
 public:
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    if (count < 1 << 20) return FileOperations::write(descriptor, bytes, count);
    return ::lseek(descriptor, static_cast<off_t>(count), SEEK_CUR) < 0 ? -1 : static_cast<ssize_t>(count);
  }
  int fsync(int) override { return 0; }
};

TEST(Npz, ArraysAbove4GigabytesAndBehindThem) {
  constexpr int64_t kPiece = 64 << 20, kPieces = 65;
  const TemporaryDirectory folder;
  SparseFiles files;
  NpzWriter writer(folder / "x.npz", files);
  writer.begin("before", Dtype::u8, {3});
  writer.write(as_bytes("abc"));
  writer.begin("large", Dtype::u8, {kPieces, kPiece});
  const std::vector<std::byte> zeros(kPiece);
  for (int64_t i = 0; i < kPieces; ++i) writer.write(zeros);
  writer.begin("behind", Dtype::u8, {3});
  writer.write(as_bytes("xyz"));
  writer.finish();
  NpzFile file(folder / "x.npz");
  EXPECT_EQ(file.names(), (std::vector<std::string>{"before", "large", "behind"}));
  EXPECT_EQ(as_text(file.array("before").data.bytes), "abc");
  EXPECT_EQ(as_text(file.array("behind").data.bytes), "xyz");
  const auto& large = file.array("large", ZipChecksums::never);
  EXPECT_EQ(large.shape, (std::vector<int64_t>{kPieces, kPiece}));
  EXPECT_EQ(large.data.bytes.size(), static_cast<size_t>(kPieces * kPiece));
  // behind the values stands a descriptor with sizes of 8 bytes, as the zip64 field before them says
  const auto map = map_file(folder / "x.npz");
  const auto end =
      static_cast<size_t>(large.data.bytes.data() + large.data.bytes.size() - file.array("before").data.bytes.data());
  const auto before = as_text(map.bytes).find("abc");
  EXPECT_EQ(as_text(map.bytes.subspan(before + end, 4)), "PK\x07\x08");
  EXPECT_EQ(as_text(map.bytes.subspan(before + end + 24, 4)), "PK\x03\x04");
}

TEST(Npz, StoredArraysPointIntoTheFileAndCompressedOnesAreKept) {
  const auto bytes = read_file(carried_npz("valid_savez"));
  NpzFile file({nullptr, as_bytes(bytes)}, "x");
  const auto* data = reinterpret_cast<const char*>(file.array("a").data.bytes.data());
  EXPECT_TRUE(data > bytes.data() && data < bytes.data() + bytes.size());
  NpzFile compressed(carried_npz("valid_savez_compressed"));
  // decompressed again each time, they would soon be more than the archive can hold
  for (int i = 0; i < 10'000; ++i) compressed.array("a");
}

TEST(Npz, ErrorsNameFileArrayExpectedAndFound) {
  const auto message = [](const std::string& name) {
    return message_of([&] {
      NpzFile file(carried_npz("hostile_" + name));
      for (const auto& each : file.names()) file.array(each);
    });
  };
  EXPECT_THAT(message("one_byte_less"),
              HasSubstr("hostile_one_byte_less: arr_0: values have the wrong size: expected 8 "
                        "bytes for float32 (2), got 7 bytes"));
  EXPECT_THAT(message("objects"), HasSubstr("arr_0: holds pickled objects, which are never loaded"));
  EXPECT_THAT(message("structured"), HasSubstr("arr_0: has a structured type"));
  EXPECT_THAT(message("complex"),
              HasSubstr("has another type: expected bool, int8 to uint64 or float16 to float64, got"));
  EXPECT_THAT(message("version_9"), HasSubstr("expected 1.0, 2.0 or 3.0, got 9.0"));
  EXPECT_THAT(message("name_twice"), HasSubstr("a.npy: zip archive holds this name twice"));
  EXPECT_THAT(message("empty"), HasSubstr("hostile_empty: empty file"));
  EXPECT_THAT(message("crc"), HasSubstr("a.npy: content differs from its checksum"));
  EXPECT_THAT(message_of([] { NpzFile(carried_npz("valid_single_npy")); }), HasSubstr("a single numpy array"));
  EXPECT_THAT(message_of([] { NpzFile(carried_npz("valid_savez")).array("arr_0"); }),
              HasSubstr("no such array in the archive: expected arr_0, got a, b"));
}

// The test bench of archives, where it is there: what breaks the format is refused with the array's or file's name;
// what only breaks a protocol (kinds of pictures, statistics) is read, and its protocol's matter.
TEST(Npz, MalformedArchivesAreRefusedAsTheirIndexSays) {
  const char* shared = std::getenv("NEXTSCALE_SHARED");
  if (!shared) GTEST_SKIP() << "NEXTSCALE_SHARED is not set: no folder with malformed archives";
  const auto folder = fs::path(shared) / "fixtures/evaluate";
  const auto index = nlohmann::json::parse(std::ifstream(folder / "npz_index.json"));
  const auto read = [](const fs::path& path) {
    NpzFile file(path);
    for (const auto& name : file.names()) file.array(name);
  };
  for (const auto& [name, what] : index.at("good").items()) {
    EXPECT_NO_THROW(read(folder / "npz" / name)) << name << ": " << what;
  }
  NpzFile c_order(folder / "npz/adm_samples.npz"), fortran(folder / "npz/fortran_pictures.npz");
  EXPECT_TRUE(as_text(c_order.array("arr_0").data.bytes) == as_text(fortran.array("arr_0").data.bytes));
  for (const char* name :
       {"object_array", "not_an_npy", "short_payload", "long_payload", "huge_shape", "negative_shape", "bad_header",
        "structured", "header_version_9", "header_length_lies", "two_arr_0", "flipped_byte", "crc"}) {
    ASSERT_TRUE(index.at("malformed").contains(name + std::string(".npz")));
    const auto message = message_of([&] { read(folder / "npz_malformed" / (name + std::string(".npz"))); });
    EXPECT_THAT(message, HasSubstr(name + std::string(".npz: arr_0")));
  }
  for (const char* name : {"truncated", "empty", "plain_npy"}) {
    const auto message = message_of([&] { read(folder / "npz_malformed" / (name + std::string(".npz"))); });
    EXPECT_THAT(message, HasSubstr(name + std::string(".npz: ")));
  }
}

}  // namespace
}  // namespace nextscale::testing
