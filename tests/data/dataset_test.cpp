#include "nextscale/data/dataset.h"

#include <cstdlib>
#include <fstream>
#include <functional>

#include <ATen/ATen.h>
#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "nextscale/base/error.h"
#include "nextscale/data/picture.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale {
namespace {

namespace fs = std::filesystem;
using testing::all_close;
using testing::TemporaryDirectory;
using testing::write_file;

std::string png(int value, int64_t height = 8, int64_t width = 8) {
  return encode_png(at::full({height, width, 3}, value, at::kByte));
}

void add_picture(const fs::path& path, int value, int64_t height = 8, int64_t width = 8) {
  fs::create_directories(path.parent_path());
  write_file(path, png(value, height, width));
}

DataOptions at_path(const fs::path& path) {
  DataOptions options;
  options.data = path.string();
  return options;
}

// What opening complains of; empty if it does not.
std::string complaint(const DataOptions& options, ExitCode code = ExitCode::failure) {
  try {
    open_data(options);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<std::string> names(const Dataset& dataset) {
  std::vector<std::string> result;
  for (int64_t i = 0; i < dataset.size(); ++i) result.push_back(dataset.name(i));
  return result;
}

std::vector<int64_t> labels(const Dataset& dataset) {
  std::vector<int64_t> result;
  for (int64_t i = 0; i < dataset.size(); ++i) result.push_back(dataset.label(i));
  return result;
}

int value(const Dataset& dataset, int64_t i) { return dataset.picture(i)[0][0][0].item<int>(); }

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

TEST(Dataset, FoldersWithTrainAndValGiveClassesInCodePointOrder) {
  const TemporaryDirectory folder;
  for (const auto* part : {"train", "val"}) {
    add_picture(folder.path() / part / "2" / "a.png", 20);
    add_picture(folder.path() / part / "10" / "b.PNG", 10);
    add_picture(folder.path() / part / "Z" / "sub" / "c.png", 30);
    add_picture(folder.path() / part / "Z" / ".hidden.png", 40);
    write_file(folder.path() / part / "Z" / "notes.txt", "no picture");
    write_file(folder.path() / part / "loose.png", "ignored");
  }
  const auto parts = open_data(at_path(folder.path()));
  EXPECT_EQ(parts.class_names, (std::vector<std::string>{"10", "2", "Z"}));
  const std::vector<std::string> expected = {"train/10/b.PNG", "train/2/a.png", "train/Z/.hidden.png",
                                             "train/Z/sub/c.png"};
  EXPECT_EQ(names(*parts.train), expected);
  EXPECT_EQ(labels(*parts.train), (std::vector<int64_t>{0, 1, 2, 2}));
  EXPECT_EQ(parts.val->size(), 4);
  EXPECT_EQ(parts.val->name(1), "val/2/a.png");
  EXPECT_EQ(value(*parts.train, 0), 10);
  EXPECT_EQ(parts.side, 8);
  EXPECT_EQ(parts.channels, 3);
  EXPECT_FALSE(parts.resize);
}

TEST(Dataset, TestIsTheHeldOutPartWhereThereIsNoVal) {
  const TemporaryDirectory folder;
  add_picture(folder / "train/a/1.png", 1);
  add_picture(folder / "test/a/2.png", 2);
  EXPECT_EQ(open_data(at_path(folder.path())).val->name(0), "test/a/2.png");
  add_picture(folder / "val/a/3.png", 3);
  EXPECT_EQ(open_data(at_path(folder.path())).val->name(0), "val/a/3.png");
}

TEST(Dataset, ClassesThatDifferBetweenThePartsAreNamed) {
  const TemporaryDirectory folder;
  add_picture(folder / "train/cat/1.png", 1);
  add_picture(folder / "train/dog/1.png", 1);
  add_picture(folder / "val/cat/1.png", 1);
  add_picture(folder / "val/cow/1.png", 1);
  const auto error = complaint(at_path(folder.path()));
  EXPECT_TRUE(contains(error, "only in training: dog; only held out: cow")) << error;
  auto unconditional = at_path(folder.path());
  unconditional.unconditional = true;
  const auto parts = open_data(unconditional);
  EXPECT_EQ(parts.classes(), 0);
  EXPECT_EQ(parts.train->size(), 2);
  EXPECT_EQ(labels(*parts.train), (std::vector<int64_t>{0, 0}));
}

TEST(Dataset, AnEmptyClassIsAnError) {
  const TemporaryDirectory folder;
  add_picture(folder / "a/1.png", 1);
  fs::create_directories(folder / "nothing");
  const auto error = complaint(at_path(folder.path()));
  EXPECT_TRUE(contains(error, "class folders without pictures: got nothing")) << error;
}

TEST(Dataset, WhatIsNotThereOrHoldsNoPicturesIsNamed) {
  const TemporaryDirectory folder;
  EXPECT_TRUE(contains(complaint(at_path(folder / "missing")), "missing: no such file or folder"));
  EXPECT_TRUE(contains(complaint(at_path(folder.path())), folder.path().string() + ": no pictures inside"));
  write_file(folder / "data.zip", "x");
  EXPECT_TRUE(contains(complaint(at_path(folder / "data.zip")), "data.zip: no data set"));
  EXPECT_TRUE(contains(complaint(DataOptions{}, ExitCode::usage), "--data: is missing"));
  auto options = at_path(folder.path());
  options.channels = 2;
  EXPECT_NE(complaint(options, ExitCode::usage), "");
  add_picture(folder / "val/a/1.png", 1);
  add_picture(folder / "val/b/1.png", 1);
  fs::remove(folder / "data.zip");
  EXPECT_TRUE(contains(complaint(at_path(folder.path())), "folder val without a folder train beside it"));
}

TEST(Dataset, AShareByTheHashOfTheNameIsHeldOut) {
  const TemporaryDirectory folder, elsewhere;
  for (int i = 0; i < 60; ++i) {
    const auto name = "class" + std::to_string(i % 2) + "/" + std::to_string(i) + ".png";
    add_picture(folder / name, i);
    if (i < 50) add_picture(elsewhere / name, i);
  }
  auto options = at_path(folder.path());
  options.val_share = 0.3;
  const auto parts = open_data(options);
  EXPECT_EQ(parts.train->size() + parts.val->size(), 60);
  EXPECT_GT(parts.val->size(), 6);
  EXPECT_LT(parts.val->size(), 32);
  EXPECT_EQ(names(*open_data(options).val), names(*parts.val));
  // Somewhere else and with fewer pictures: those that are left stay in their part.
  options.data = elsewhere.path().string();
  const auto held_out = names(*parts.val);
  for (const auto& name : names(*open_data(options).val)) {
    EXPECT_NE(std::find(held_out.begin(), held_out.end(), name), held_out.end()) << name;
  }
  options.val_share = 0;
  EXPECT_EQ(open_data(options).val->size(), 0);
  options.val_share = 1e-9;
  EXPECT_EQ(open_data(options).val->size(), 1);
}

TEST(Dataset, APlainFolderOfPicturesHasNoClasses) {
  const TemporaryDirectory folder;
  for (int i = 0; i < 4; ++i) add_picture(folder / (std::to_string(i) + ".png"), i);
  auto options = at_path(folder.path());
  options.val_share = 0;
  const auto parts = open_data(options);
  EXPECT_EQ(parts.classes(), 0);
  EXPECT_EQ(names(*parts.train), (std::vector<std::string>{"0.png", "1.png", "2.png", "3.png"}));
}

TEST(Dataset, LinksAreFollowedAndLoopsEnd) {
  const TemporaryDirectory folder, elsewhere;
  add_picture(folder / "a/1.png", 1);
  add_picture(elsewhere / "linked/2.png", 2);
  fs::create_directory_symlink(elsewhere / "linked", folder / "b");
  fs::create_directory_symlink(folder.path(), folder / "a" / "up");
  fs::create_directory_symlink(folder / "a", elsewhere / "linked" / "a");
  fs::create_directory_symlink(folder / "b", folder / "a" / "b");
  auto options = at_path(folder.path());
  options.val_share = 0;
  const auto parts = open_data(options);
  EXPECT_EQ(parts.class_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(names(*parts.train), (std::vector<std::string>{"a/1.png", "a/b/2.png", "b/2.png", "b/a/1.png"}));
  fs::create_symlink(folder / "gone.png", folder / "a" / "broken.png");
  EXPECT_TRUE(contains(complaint(options), "broken.png: link to a file that is not there"));
}

TEST(Dataset, AClassIndexGivesNumbersAndNames) {
  const TemporaryDirectory folder;
  add_picture(folder / "data/train/n02/1.png", 1);
  add_picture(folder / "data/train/n07/1.png", 1);
  add_picture(folder / "data/val/n07/1.png", 1);
  write_file(folder / "classes.tsv",
             "index\twnid\tnames\n0\tn07\tgoldfish, Carassius auratus\n1\tn05\tcrane\n2\tn02\n");
  auto options = at_path(folder / "data");
  options.class_index = (folder / "classes.tsv").string();
  const auto parts = open_data(options);
  EXPECT_EQ(parts.class_names, (std::vector<std::string>{"goldfish, Carassius auratus", "crane", "n02"}));
  EXPECT_EQ(labels(*parts.train), (std::vector<int64_t>{2, 0}));
  write_file(folder / "classes.tsv", "0 n07 gold fish\n1 n02 other\n");
  EXPECT_EQ(open_data(options).class_names, (std::vector<std::string>{"gold fish", "other"}));
  const std::pair<const char*, const char*> damaged[] = {{"0 n07\n", "folder n02 is no class of --class-index"},
                                                         {"0 n07\n0 n02\n", "class 0 for the second time"},
                                                         {"0 n07\n2 n02\n", "class 1 is missing"},
                                                         {"0 n07\n1 n07\n", "folder n07 for the second time"},
                                                         {"0 n07\nx n02\n", "classes.tsv:2: no class"},
                                                         {"", "no classes inside"}};
  for (const auto& [text, expected] : damaged) {
    write_file(folder / "classes.tsv", text);
    EXPECT_TRUE(contains(complaint(options), expected)) << complaint(options);
  }
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

TEST(Dataset, TheSideIsThatOfTheDataOrMustBeGiven) {
  const TemporaryDirectory folder;
  add_picture(folder / "a/1.png", 1, 8, 8);
  add_picture(folder / "a/2.png", 2, 8, 8);
  auto options = at_path(folder.path());
  EXPECT_EQ(open_data(options).side, 8);
  options.side = 4;
  EXPECT_TRUE(open_data(options).resize);
  options.crop = "none";
  EXPECT_TRUE(contains(complaint(options), "expected 4 x 4, got 8 x 8"));
  options.crop = "center";
  options.side = 0;
  EXPECT_TRUE(open_data(options).resize);
  add_picture(folder / "a/3.png", 3, 8, 9);
  options.crop = "auto";
  EXPECT_TRUE(contains(complaint(options, ExitCode::usage), "--side: must be given, as the pictures differ in size"));
  options.side = 8;
  EXPECT_TRUE(open_data(options).resize);
}

TEST(Dataset, ADamagedPictureIsNamedWhenItIsRead) {
  const TemporaryDirectory folder;
  add_picture(folder / "a/1.png", 1);
  write_file(folder / "a/2.png", png(2).substr(0, 60));
  auto options = at_path(folder.path());
  options.val_share = 0;
  const auto parts = open_data(options);
  EXPECT_EQ(value(*parts.train, 0), 1);
  try {
    parts.train->picture(1);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()), (folder / "a/2.png").string() + ": damaged picture: PNG: the file ends early");
  }
}

TEST(Dataset, TheFingerprintChangesWithTheData) {
  const TemporaryDirectory folder;
  add_picture(folder / "a/1.png", 1);
  add_picture(folder / "b/2.png", 2);
  const auto first = open_data(at_path(folder.path())).fingerprint;
  EXPECT_EQ(open_data(at_path(folder.path())).fingerprint, first);
  fs::rename(folder / "b/2.png", folder / "b/3.png");
  EXPECT_NE(open_data(at_path(folder.path())).fingerprint, first);
  fs::rename(folder / "b/3.png", folder / "b/2.png");
  EXPECT_EQ(open_data(at_path(folder.path())).fingerprint, first);
  fs::rename(folder / "b", folder / "c");
  EXPECT_NE(open_data(at_path(folder.path())).fingerprint, first);
}

// The test bench of odd trees, where it is there: order and labels as the reference's lists them.
TEST(Dataset, OddTreesAreListedAsTheReferenceDoes) {
  const char* shared = std::getenv("NEXTSCALE_SHARED");
  if (!shared) GTEST_SKIP() << "NEXTSCALE_SHARED is not set: no folder with odd trees";
  const auto folder = fs::path(shared) / "data/odd_images";
  const auto expected = nlohmann::json::parse(std::ifstream(folder / "tree_expected.json")).at("trees").at("tree");
  auto options = at_path(folder / "tree");
  options.val_share = 0;
  const auto parts = open_data(options);
  const auto& samples = expected.at("samples");
  ASSERT_EQ(parts.train->size(), static_cast<int64_t>(samples.size()));
  EXPECT_EQ(parts.classes(), static_cast<int64_t>(expected.at("class_to_idx").size()));
  for (int64_t i = 0; i < parts.train->size(); ++i) {
    const auto& sample = samples[static_cast<size_t>(i)];
    EXPECT_EQ(parts.train->name(i), sample.at("file"));
    EXPECT_EQ(parts.train->label(i), sample.at("label"));
    EXPECT_EQ(parts.class_names[static_cast<size_t>(sample.at("label"))],
              sample.at("file").get<std::string>().substr(
                  0, parts.class_names[static_cast<size_t>(sample.at("label"))].size()));
    for (int64_t c = 0; c < 3; ++c)
      EXPECT_EQ(parts.train->picture(i)[0][0][c].item<int>(), sample.at("rgb")[static_cast<size_t>(c)]);
  }
  EXPECT_TRUE(contains(complaint(at_path(folder / "tree_empty_class")), "class folders without pictures: got empty"));
}

}  // namespace
}  // namespace nextscale
