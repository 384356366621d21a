#include <functional>

#include <ATen/ATen.h>
#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "nextscale/data/dataset.h"
#include "nextscale/tests/data/dataset_support.h"
#include "nextscale/tests/support/all_close.h"

namespace nextscale {
namespace {

namespace fs = std::filesystem;
using testing::add_picture;
using testing::all_close;
using testing::at_path;
using testing::complaint;
using testing::contains;
using testing::names;
using testing::png;
using testing::TemporaryDirectory;
using testing::value;
using testing::write_file;

std::string idx(const std::vector<int64_t>& shape, const std::function<int(int64_t)>& at) {
  std::string file = {0, 0, 8, static_cast<char>(shape.size())};
  int64_t count = 1;
  for (const auto size : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) file += static_cast<char>(size >> shift);
    count *= size;
  }
  for (int64_t i = 0; i < count; ++i) file += static_cast<char>(at(i));
  return file;
}

std::string gzip(const std::string& bytes) {
  const TemporaryDirectory folder;
  const auto path = (folder / "x.gz").string();
  auto* file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  return testing::read_file(path);
}

void write_tar(const fs::path& path, const std::vector<std::pair<std::string, std::string>>& files) {
  auto* tar = archive_write_new();
  archive_write_set_format_pax_restricted(tar);
  if (path.extension() != ".tar") archive_write_add_filter_gzip(tar);
  archive_write_open_filename(tar, path.c_str());
  for (const auto& [name, content] : files) {
    auto* entry = archive_entry_new();
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_size(entry, static_cast<la_int64_t>(content.size()));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_write_header(tar, entry);
    archive_write_data(tar, content.data(), content.size());
    archive_entry_free(entry);
  }
  archive_write_free(tar);
}

// 10 training and 4 held-out pictures of 2 x 2; picture i is filled with 10 i, its label is i % 3.
void write_idx_set(const fs::path& folder, bool packed = false) {
  const auto put = [&](const std::string& name, const std::string& bytes) {
    write_file(folder / (packed ? name + ".gz" : name), packed ? gzip(bytes) : bytes);
  };
  put("train-images-idx3-ubyte", idx({10, 2, 2}, [](int64_t i) { return static_cast<int>(i / 4 * 10); }));
  put("train-labels-idx1-ubyte", idx({10}, [](int64_t i) { return static_cast<int>(i % 3); }));
  put("t10k-images-idx3-ubyte", idx({4, 2, 2}, [](int64_t i) { return static_cast<int>(i / 4 * 10 + 1); }));
  put("t10k-labels-idx1-ubyte", idx({4}, [](int64_t i) { return static_cast<int>(i % 3); }));
}

TEST(Dataset, IdxFilesGiveGreyPicturesAndNumberedClasses) {
  for (const bool packed : {false, true}) {
    const TemporaryDirectory folder;
    write_idx_set(folder.path(), packed);
    const auto parts = open_data(at_path(folder.path()));
    EXPECT_EQ(parts.train->size(), 10);
    EXPECT_EQ(parts.val->size(), 4);
    EXPECT_EQ(parts.class_names, (std::vector<std::string>{"0", "1", "2"}));
    EXPECT_EQ(parts.channels, 1);
    EXPECT_EQ(parts.side, 2);
    EXPECT_FALSE(parts.resize);
    EXPECT_EQ(value(*parts.train, 7), 70);
    EXPECT_EQ(value(*parts.val, 3), 31);
    EXPECT_EQ(parts.train->label(7), 1);
    EXPECT_TRUE(contains(parts.train->name(7), "train-images-idx3-ubyte")) << parts.train->name(7);
    EXPECT_TRUE(contains(parts.train->name(7), "[7]"));
    auto colour = at_path(folder.path());
    colour.channels = 3;
    EXPECT_EQ(open_data(colour).train->picture(1).sizes(), at::IntArrayRef({2, 2, 3}));
  }
}

TEST(Dataset, AnIdxFileAloneIsSplitByShare) {
  const TemporaryDirectory folder;
  write_idx_set(folder.path());
  auto options = at_path(folder / "train-images-idx3-ubyte");
  options.val_share = 0.3;
  const auto parts = open_data(options);
  EXPECT_EQ(parts.train->size() + parts.val->size(), 10);
  EXPECT_GE(parts.val->size(), 1);
}

TEST(Dataset, IdxColourPicturesKeepTheirOrderOfValues) {
  const TemporaryDirectory folder;
  write_file(folder / "exact_train-images.idx4-ubyte",
             idx({2, 2, 2, 3}, [](int64_t i) { return static_cast<int>(i); }));
  write_file(folder / "exact_train-labels.idx1-ubyte", idx({2}, [](int64_t i) { return static_cast<int>(i); }));
  auto options = at_path(folder.path());
  options.val_share = 0;
  const auto parts = open_data(options);
  EXPECT_EQ(parts.channels, 3);
  EXPECT_TRUE(all_close(parts.train->picture(1), at::arange(12, 24).view({2, 2, 3})));
}

TEST(Dataset, IdxSetsThatDoNotFitTogetherAreRefused) {
  const TemporaryDirectory folder;
  write_idx_set(folder.path());
  write_file(folder / "train-labels-idx1-ubyte", idx({9}, [](int64_t) { return 0; }));
  EXPECT_TRUE(contains(complaint(at_path(folder.path())), "number of labels differs"));
  fs::remove(folder / "train-labels-idx1-ubyte");
  EXPECT_TRUE(contains(complaint(at_path(folder.path())), "train-labels-idx1-ubyte: labels are missing"));
  auto unconditional = at_path(folder.path());
  unconditional.unconditional = true;
  EXPECT_EQ(open_data(unconditional).train->size(), 10);
  write_file(folder / "train-labels-idx1-ubyte", idx({10}, [](int64_t) { return 1; }));
  EXPECT_TRUE(contains(complaint(at_path(folder.path())), "t10k-labels-idx1-ubyte: label 2 is outside the classes"));
  write_file(folder / "other-train-images-idx3-ubyte", "");
  EXPECT_TRUE(contains(complaint(at_path(folder.path())), "more than one IDX file of training pictures"));
}

TEST(Dataset, TarFilesAreReadLikeFolders) {
  for (const auto* extension : {".tar", ".tar.gz", ".tgz"}) {
    const TemporaryDirectory folder;
    const std::string end = extension;
    write_tar(folder / ("all" + end), {{"./set/train/b/1.png", png(1)},
                                       {"./set/train/a/2.png", png(2)},
                                       {"./set/val/a/3.png", png(3)},
                                       {"./set/val/b/4.png", png(4)},
                                       {"./set/README", "text"}});
    const auto parts = open_data(at_path(folder / ("all" + end)));
    EXPECT_EQ(names(*parts.train),
              (std::vector<std::string>{"all" + end + ":set/train/a/2.png", "all" + end + ":set/train/b/1.png"}));
    EXPECT_EQ(parts.class_names, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(value(*parts.val, 1), 4);

    const TemporaryDirectory two;
    write_tar(two / ("jpeg_train" + end), {{"train/b/1.png", png(1)}, {"train/a/2.png", png(2)}});
    write_tar(two / ("jpeg_test" + end), {{"a/3.png", png(3)}, {"b/4.png", png(4)}});
    const auto both = open_data(at_path(two.path()));
    EXPECT_EQ(both.train->size(), 2);
    EXPECT_EQ(names(*both.val),
              (std::vector<std::string>{"jpeg_test" + end + ":a/3.png", "jpeg_test" + end + ":b/4.png"}));
    EXPECT_EQ(value(*both.train, 0), 2);
    // The same pictures unpacked are the same data.
    add_picture(folder / "plain/train/a/2.png", 2);
    add_picture(folder / "plain/train/b/1.png", 1);
    add_picture(folder / "plain/val/a/3.png", 3);
    add_picture(folder / "plain/val/b/4.png", 4);
    EXPECT_EQ(open_data(at_path(folder / "plain")).fingerprint, parts.fingerprint);
  }
}

TEST(Dataset, TarFilesWhosePartIsUnclearAreRefused) {
  const TemporaryDirectory folder;
  write_tar(folder / "a.tar", {{"x/1.png", png(1)}});
  write_tar(folder / "b.tar", {{"x/1.png", png(1)}});
  EXPECT_TRUE(contains(complaint(at_path(folder.path())), "unclear which tar file is for what"));
}

}  // namespace
}  // namespace nextscale
