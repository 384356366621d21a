#include "nextscale/io/unpacked.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>

#include "nextscale/base/error.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kAll = uint64_t{1} << 40;

SharedBytes unpacked(const std::string& compressed, uint64_t most, size_t in_memory) {
  GzipReader reader(as_bytes(compressed), "f.gz");
  return unpack(reader, most, "f.gz", in_memory);
}

std::string noise(size_t size) {
  std::string text(size, '\0');
  uint32_t state = 1;
  for (auto& c : text) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return text;
}

// The folder for temporary files while one lives.
class TemporaryFilesIn {
 public:
  explicit TemporaryFilesIn(const std::filesystem::path& folder) {
    if (const char* before = std::getenv("TMPDIR")) before_ = before;
    ::setenv("TMPDIR", folder.c_str(), 1);
  }
  ~TemporaryFilesIn() { before_ ? ::setenv("TMPDIR", before_->c_str(), 1) : ::unsetenv("TMPDIR"); }

 private:
  std::optional<std::string> before_;
};

RC_GTEST_PROP(Unpacked, IsTheContentWhereverItIsHeld, ()) {
  const auto size = *rc::gen::inRange<size_t>(0, 600'000);
  const auto most = *rc::gen::inRange<size_t>(0, 700'000);
  const auto in_memory = *rc::gen::inRange<size_t>(0, 700'000);
  const auto content = noise(size);
  const auto result = unpacked(gzip(content), most, in_memory);
  RC_ASSERT(as_text(result.bytes) == std::string_view(content).substr(0, most));
}

RC_GTEST_PROP(RoomFor, HoldsWhatIsWrittenWhereverItIs, ()) {
  const auto content = noise(*rc::gen::inRange<size_t>(1, 600'000));
  const auto room = room_for(content.size(), "f.npz", *rc::gen::inRange<size_t>(0, 700'000));
  RC_ASSERT(room.bytes.size() == content.size());
  std::copy_n(as_bytes(content).begin(), content.size(), room.bytes.begin());
  RC_ASSERT(as_text(room.bytes) == content);
}

TEST(RoomFor, SaysWhichFolderHasNoRoom) {
  const TemporaryFilesIn folder("/nonexistent");
  try {
    room_for(1000, "f.npz", 10);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("f.npz"), HasSubstr("/nonexistent")));
  }
}

TEST(Unpacked, ALargeOneLiesInTheTemporaryFolderWithoutAName) {
  const TemporaryDirectory folder;
  const TemporaryFilesIn here(folder.path());
  const auto content = noise(1'000'000);
  const auto result = unpacked(gzip(content), kAll, 1000);
  EXPECT_EQ(as_text(result.bytes), content);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Unpacked, WithoutRoomBothNamesAreTold) {
  const TemporaryDirectory folder;
  const auto compressed = gzip(noise(1'000'000));
  {
    const TemporaryFilesIn nowhere(folder / "missing");
    EXPECT_THAT(message_of([&] { unpacked(compressed, kAll, 1000); }),
                AllOf(HasSubstr("f.gz: "), HasSubstr("missing")));
    EXPECT_EQ(unpacked(compressed, kAll, 2'000'000).bytes.size(), 1'000'000);  // memory is enough
  }
  const TemporaryFilesIn here(folder.path());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{500'000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto message = message_of([&] { unpacked(compressed, kAll, 1000); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, AllOf(HasSubstr("f.gz: cannot be unpacked into " + folder.path().string()), HasSubstr("TMPDIR"),
                             HasSubstr("File too large")));
}

}  // namespace
}  // namespace nextscale::testing
