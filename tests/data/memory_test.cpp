#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include "nextscale/data/loader.h"
#include "nextscale/tests/data/dataset_support.h"

#ifdef __SANITIZE_ADDRESS__
extern "C" size_t __sanitizer_get_current_allocated_bytes();  // GCC's packages bring no header for it
#endif

namespace nextscale {
namespace {

using testing::at_path;
using testing::TemporaryDirectory;
using testing::write_file;
namespace fs = std::filesystem;

constexpr int64_t kSide = 64, kPictures = 3000, kBatch = 50;
constexpr int64_t kDecoded = kPictures * kSide * kSide * 3;  // bytes: 37 million

// Bytes that are allocated and not freed. The process's size would tell of the allocator's habits as well.
int64_t live_bytes() {
#ifdef __SANITIZE_ADDRESS__
  return static_cast<int64_t>(__sanitizer_get_current_allocated_bytes());
#else
  const auto heap = ::mallinfo2();
  return static_cast<int64_t>(heap.uordblks + heap.hblkhd);
#endif
}

// One file under many names: what is read is as much as of different files.
void write_folder(const fs::path& root) {
  at::manual_seed(1);
  const auto noise = at::randint(0, 256, {kSide, kSide, 3}, at::TensorOptions(at::kByte));
  write_file(root / "noise.png", encode_png(noise));
  for (const std::string part : {"train", "val"}) {
    fs::create_directories(root / "data" / part / "a");
    for (int64_t i = 0; i < (part == "val" ? 1 : kPictures); ++i) {
      fs::create_hard_link(root / "noise.png", root / "data" / part / "a" / (std::to_string(i) + ".png"));
    }
  }
}

void expect_flat(const DataOptions& options) {
  const auto parts = open_data(options);
  ASSERT_EQ(parts.train->size(), kPictures);
  Loader loader(parts.train, parts, options, kBatch, 1);
  const auto steps = loader.batches_per_epoch();
  int64_t step = 0;
  for (; step < steps / 10; ++step) loader.batch(step);
  const auto early = live_bytes();
  for (; step < steps; ++step) loader.batch(step);
  // Batches that are read ahead make for a few million bytes either way.
  EXPECT_LT(live_bytes() - early, kDecoded / 5);
}

TEST(Memory, DoesNotGrowWithPicturesOfAFolder) {
  const TemporaryDirectory directory;
  write_folder(directory.path());
  expect_flat(at_path(directory / "data"));
}

TEST(Memory, DoesNotGrowWithPicturesOfATarFile) {
  const TemporaryDirectory directory;
  write_folder(directory.path());
  const auto command = "cd '" + directory.path().string() + "' && tar --hard-dereference -cf all.tar data";
  ASSERT_EQ(std::system(command.c_str()), 0);
  expect_flat(at_path(directory / "all.tar"));
}

}  // namespace
}  // namespace nextscale
