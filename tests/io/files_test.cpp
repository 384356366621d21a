#include <csignal>
#include <fstream>
#include <set>
#include <string>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "nextscale/io/atomic_file.h"
#include "nextscale/io/bytes.h"
#include "nextscale/io/checkpoint.h"
#include "nextscale/io/disk.h"
#include "nextscale/io/weights.h"
#include "nextscale/tests/io/helpers.h"
#include "nextscale/tests/support/all_close.h"
#include "nextscale/tests/support/failing_files.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int kNever = 1 << 30;

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

WeightsFile weights_of(double value) {
  return {{{"w", at::full({3, 5}, value, at::kFloat)}, {"step", at::full({2}, static_cast<int64_t>(value), at::kLong)}},
          {{"format", "nextscale.tokenizer"}}};
}

double value_in(const fs::path& file) { return find_tensor(read_weights(file).tensors, "w").mean().item<double>(); }

// --- files ---------------------------------------------------------------------------------------------------------

TEST(AtomicFile, IsInItsPlaceAfterCommitAndLeavesNothingOtherwise) {
  const TemporaryDirectory folder;
  write_text_atomically(folder / "a.txt", "first");
  {
    AtomicFile file(folder / "a.txt");
    write_file(file.path(), "second");
    EXPECT_EQ(read_text(folder / "a.txt"), "first");
  }
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a.txt"});
  AtomicFile file(folder / "a.txt");
  write_file(file.path(), "second");  // by a writer of somebody else's
  file.commit();
  EXPECT_EQ(read_text(folder / "a.txt"), "second");
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a.txt"});
}

TEST(AtomicFile, ErrorsNameTheTargetAndTheReason) {
  const TemporaryDirectory folder;
  EXPECT_THAT(message_of([&] { write_text_atomically(folder / "none/a.txt", "x"); }),
              HasSubstr("none/a.txt: cannot be written: No such file or directory"));
  EXPECT_THAT(message_of([&] { write_text_atomically(folder.path(), "x"); }),
              HasSubstr("expected a regular file, got a folder"));
  EXPECT_THAT(message_of([&] { write_text_atomically("/dev/null", "x"); }), HasSubstr("/dev/null: cannot be replaced"));
  EXPECT_THAT(message_of([&] { read_text(folder / "b.txt"); }), HasSubstr("b.txt: cannot be read: No such file"));
}

TEST(Weights, AFailureAtAnyOperationLeavesTheOldFileAndOneClearError) {
  int operations = 0;
  for (const bool crash : {false, true}) {
    for (int fail_at = 0;; ++fail_at) {
      const TemporaryDirectory folder;
      const auto path = folder / "model.safetensors";
      write_weights(path, weights_of(1));
      FailingFiles files(fail_at, crash);
      std::string message = "no error";
      try {
        write_weights(path, weights_of(2), files);
      } catch (const Error& error) {
        message = error.what();
      }
      if (files.calls <= fail_at) break;  // every operation has had its turn
      operations = std::max(operations, fail_at + 1);
      const double found = value_in(path);  // throws if the file is damaged
      EXPECT_TRUE(found == 1 || found == 2);
      SCOPED_TRACE(fmt::format("operation {}: {}", fail_at, message));
      EXPECT_TRUE(message != "no error" || found == 2);
      EXPECT_TRUE(message == "no error" || message.find(": No space left on device") != std::string::npos);
      EXPECT_TRUE(crash || names_in(folder.path()).size() == 1);
    }
  }
  EXPECT_GE(operations, 8);  // open, three writes, fsync, close, rename, and the folder's
}

TEST(Weights, AFullDiskIsOneClearErrorAndTheOldFileStays) {
  const TemporaryDirectory folder;
  const auto path = folder / "model.safetensors";
  write_weights(path, weights_of(1));
  // the kernel itself refuses: a file size limit ends the write as a full disk does, in the middle
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto message = message_of([&] { write_weights(path, {{{"w", at::zeros({100, 100})}}, {}}); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, HasSubstr("model.safetensors: cannot be written: File too large"));
  EXPECT_EQ(value_in(path), 1);
  EXPECT_EQ(names_in(folder.path()).size(), 1u);
}

TEST(Disk, TooLittleSpaceNamesBothSides) {
  const TemporaryDirectory folder;
  require_free_space(folder / "not/there/yet", 1);
  EXPECT_THAT(message_of([&] { require_free_space(folder / "not/there", uint64_t{1} << 62); }),
              HasSubstr("not/there: too little disk: expected 4611686018.4 GB free, got "));
}

// --- weights -------------------------------------------------------------------------------------------------------

TEST(Weights, EveryTypeComesBackBitForBitInOrderWithMetadata) {
  const TemporaryDirectory folder;
  WeightsFile file;
  file.metadata = {{"format", "nextscale.tokens"}, {"config", R"({"names": ["größe"]})"}};
  for (const auto type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
                          at::kFloat, at::kDouble}) {
    file.tensors.emplace_back(fmt::format("t{}", static_cast<int>(type)), at::arange(7).remainder(2).to(type));
  }
  file.tensors.emplace_back("transposed", at::arange(6, at::kFloat).reshape({2, 3}).t());
  file.tensors.emplace_back("scalar", at::scalar_tensor(2.5));
  file.tensors.emplace_back("empty", at::empty({0, 4}));
  file.tensors.emplace_back("leaf", at::ones({2}).requires_grad_());
  file.tensors.emplace_back("unsigned", at::arange(3).to(at::kUInt16));
  write_weights(folder / "x", file);
  const auto read = read_weights(folder / "x");
  EXPECT_EQ(read.metadata, file.metadata);
  ASSERT_EQ(read.tensors.size(), file.tensors.size());
  for (size_t i = 0; i < read.tensors.size(); ++i) {
    const auto& [name, tensor] = read.tensors[i];
    EXPECT_EQ(name, file.tensors[i].first);
    EXPECT_EQ(tensor.scalar_type(), file.tensors[i].second.scalar_type());
    EXPECT_FALSE(tensor.requires_grad());
    EXPECT_TRUE(all_close(tensor.to(at::kDouble), file.tensors[i].second.detach().to(at::kDouble))) << name;
  }
}

TEST(Weights, TensorsOutliveTheFileAndChangingThemLeavesItAsItWas) {
  const TemporaryDirectory folder;
  write_weights(folder / "x", weights_of(1));
  const auto before = read_file(folder / "x");
  at::Tensor tensor = find_tensor(read_weights(folder / "x").tensors, "w");
  tensor.fill_(7);
  EXPECT_EQ(read_file(folder / "x"), before);
  write_weights(folder / "x", weights_of(2));  // replaced by rename: the old bytes stay mapped
  EXPECT_TRUE(all_close(tensor, at::full({3, 5}, 7.0)));
  EXPECT_EQ(value_in(folder / "x"), 2);
}

/// Bytes of resident memory in this process's maps of the file.
int64_t resident(const fs::path& file) {
  std::ifstream maps("/proc/self/smaps");
  int64_t kilobytes = 0;
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    const bool field = line.find(':') < line.find(' ');  // "Rss:  4 kB"; a map begins with its addresses
    if (!field) inside = line.ends_with(file.string());
    if (inside && line.rfind("Rss:", 0) == 0) kilobytes += std::stoll(line.substr(4));
  }
  return kilobytes * 1024;
}

TEST(Weights, ForgottenTensorsLeaveMemoryAndComeBackFromTheFile) {
  const TemporaryDirectory folder;
  const auto path = fs::canonical(folder / ".") / "x";
  const auto values = at::arange(1 << 20).to(at::kFloat);  // 4 MiB
  write_weights(path, {{{"w", values}}, {}});
  const auto file = read_weights(path);
  const auto& mapped = find_tensor(file.tensors, "w");
  EXPECT_TRUE(at::equal(mapped, values));
  EXPECT_GE(resident(path), values.nbytes() / 2);
  file.forget(mapped);
  EXPECT_LT(resident(path), values.nbytes() / 8);
  EXPECT_TRUE(at::equal(mapped, values));
  const auto own = values.clone();
  file.forget(own);  // not of this file: stays as it is
  EXPECT_TRUE(at::equal(own, values));
}

TEST(Weights, UnalignedDataIsCopiedAndForeignBooleansRefused) {
  const TemporaryDirectory folder;
  const auto file = [](std::string header, const std::string& data) {
    header.resize((header.size() + 7) / 8 * 8, ' ');
    return std::string{static_cast<char>(header.size()), 0, 0, 0, 0, 0, 0, 0} + header + data;
  };
  write_file(folder / "x", file(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                R"("i":{"dtype":"I32","shape":[2],"data_offsets":[1,9]}})",
                                std::string("\x09\x01\0\0\0\x02\0\0\0", 9)));
  EXPECT_TRUE(all_close(find_tensor(read_weights(folder / "x").tensors, "i"), at::arange(1, 3).to(at::kInt)));
  write_file(folder / "x", file(R"({"b":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", "\x01\x02"));
  EXPECT_THAT(message_of([&] { read_weights(folder / "x"); }),
              HasSubstr("b: BOOL data holds another byte: expected 0 or 1, got 2"));
}

TEST(Weights, WhatTheFormatCannotHoldAndOtherFormatsAreRefused) {
  const TemporaryDirectory folder;
  EXPECT_THAT(message_of([&] { write_weights(folder / "x", {{{"c", at::zeros({1}, at::kComplexFloat)}}, {}}); }),
              HasSubstr("x: c: cannot be written: safetensors has no such type: got ComplexFloat"));
  EXPECT_THAT(message_of([&] { write_weights(folder / "x", {{{"u", at::Tensor()}}, {}}); }),
              HasSubstr("tensor is undefined"));
  expect_format(weights_of(1), "nextscale.tokenizer", "x");
  EXPECT_EQ(message_of([] { expect_format(weights_of(1), "nextscale.transformer", "x"); }),
            "x: not a transformer: expected format nextscale.transformer, got nextscale.tokenizer");
  EXPECT_THAT(message_of([] { expect_format({}, "nextscale.tokens", "x"); }), HasSubstr("got a file without a format"));
}

// --- checkpoints ---------------------------------------------------------------------------------------------------

void save(const fs::path& checkpoints, int64_t step, double value, FileOperations& files) {
  CheckpointWriter writer(checkpoints, step, files);
  write_weights(writer.file("model.safetensors"), weights_of(value), files);
  write_text_atomically(writer.file("state.json"), "{}", files);
  writer.commit();
}

void save(const fs::path& checkpoints, int64_t step, double value) {
  FailingFiles files(kNever, false);
  save(checkpoints, step, value, files);
}

TEST(Checkpoint, IsThereAfterCommitAndTheNewestIsTheOneThatLatestNames) {
  const TemporaryDirectory folder;
  const auto checkpoints = folder / "run/checkpoints";
  EXPECT_TRUE(list_checkpoints(checkpoints).empty());
  EXPECT_FALSE(newest_checkpoint(checkpoints));
  save(checkpoints, 100, 1);
  save(checkpoints, 12000, 2);
  EXPECT_EQ(names_in(checkpoints), (std::set<std::string>{"latest", "step_00000100", "step_00012000"}));
  EXPECT_EQ(newest_checkpoint(checkpoints)->step, 12000);
  save(checkpoints, 300, 3);  // a run that went on from an older one
  EXPECT_EQ(newest_checkpoint(checkpoints)->step, 300);
  write_file(checkpoints / "latest", "step_00000777\n");  // stale
  EXPECT_EQ(newest_checkpoint(checkpoints)->step, 12000);
  fs::remove(checkpoints / "latest");
  EXPECT_EQ(newest_checkpoint(checkpoints)->step, 12000);
  ASSERT_EQ(list_checkpoints(checkpoints).size(), 3u);
  EXPECT_EQ(list_checkpoints(checkpoints)[1].step, 300);
}

TEST(Checkpoint, UnfinishedAndForeignFoldersDoNotCount) {
  const TemporaryDirectory folder;
  { CheckpointWriter writer(folder.path(), 1); }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  for (const char* name : {".step_00000005.part", "step_", "step_7x", "step_-3", "stop_1"})
    fs::create_directory(folder / name);
  write_file(folder / "step_00000009", "a file");
  EXPECT_TRUE(list_checkpoints(folder.path()).empty());
  save(folder.path(), 6, 1);
  EXPECT_FALSE(fs::exists(folder / ".step_00000005.part"));  // a killed writer's
}

class CheckpointFault : public ::testing::TestWithParam<std::tuple<bool, bool, bool>> {};

TEST_P(CheckpointFault, AtAnyOperationLeavesACompleteCheckpointInView) {
  const auto [crash, same_step, without_exchange] = GetParam();
  const int64_t step = same_step ? 10 : 20;
  int operations = 0;
  for (int fail_at = 0;; ++fail_at) {
    const TemporaryDirectory folder;
    save(folder.path(), 5, 0.5);
    save(folder.path(), 10, 1);
    FailingFiles files(fail_at, crash);
    files.without_exchange = without_exchange;
    std::string message;
    try {
      save(folder.path(), step, 2, files);
    } catch (const Error& error) {
      message = error.what();
    }
    if (files.calls <= fail_at) break;
    ++operations;
    SCOPED_TRACE(fmt::format("operation {}: {}", fail_at, message));
    // what is in view is whole, old or new, and the old one is there unless the new one is
    const auto newest = newest_checkpoint(folder.path());
    ASSERT_TRUE(newest);
    const double found = value_in(newest->path / "model.safetensors");
    const bool gap = crash && same_step && without_exchange && found == 0.5;  // between its two renames
    EXPECT_TRUE(found == 1 || found == 2 || gap) << found;
    for (const auto& each : list_checkpoints(folder.path())) {
      EXPECT_NO_THROW(value_in(each.path / "model.safetensors"));
      EXPECT_TRUE(fs::exists(each.path / "state.json"));
    }
    EXPECT_TRUE(!message.empty() || found == 2);
    EXPECT_TRUE(message.empty() || message.find(": No space left on device") != std::string::npos);
    // and the next attempt succeeds and clears up
    save(folder.path(), step, 3);
    EXPECT_EQ(value_in(newest_checkpoint(folder.path())->path / "model.safetensors"), 3);
    for (const auto& name : names_in(folder.path())) EXPECT_EQ(name.find(".part"), std::string::npos) << name;
  }
  EXPECT_GE(operations, 25);
}

INSTANTIATE_TEST_SUITE_P(Failures, CheckpointFault,
                         ::testing::Values(std::tuple(false, false, false), std::tuple(true, false, false),
                                           std::tuple(false, true, false), std::tuple(true, true, false),
                                           std::tuple(false, true, true), std::tuple(true, true, true)));

TEST(Checkpoint, OldOnesAreRemovedButNeverTheOneThatLatestNames) {
  const TemporaryDirectory folder;
  for (const int64_t step : {40, 10, 20, 30}) save(folder.path(), step, 1);
  keep_newest_checkpoints(folder.path(), 0);
  EXPECT_EQ(list_checkpoints(folder.path()).size(), 4u);
  write_file(folder / "latest", "step_00000010\n");
  keep_newest_checkpoints(folder.path(), 2);
  EXPECT_EQ(names_in(folder.path()),
            (std::set<std::string>{"latest", "step_00000010", "step_00000030", "step_00000040"}));
}

TEST(Checkpoint, WeightsAreFoundInARunACheckpointOrAFile) {
  const TemporaryDirectory folder;
  EXPECT_THAT(message_of([&] { resolve_weights_path(folder / "none"); }), HasSubstr("none: no such file or run"));
  EXPECT_THAT(message_of([&] { resolve_weights_path(folder.path()); }), HasSubstr("no checkpoint in this folder"));
  const auto checkpoints = folder / "checkpoints";
  save(checkpoints, 7, 1);
  const auto model = checkpoints / "step_00000007/model.safetensors",
             ema = checkpoints / "step_00000007/ema.safetensors";
  EXPECT_EQ(resolve_weights_path(folder.path()), model);
  write_weights(ema, weights_of(2));
  for (const auto& path : {folder.path(), checkpoints, ema.parent_path(), ema})
    EXPECT_EQ(resolve_weights_path(path), ema);
  EXPECT_EQ(resolve_weights_path(folder.path(), true), model);
  fs::remove(model);
  fs::remove(ema);
  EXPECT_THAT(message_of([&] { resolve_weights_path(folder.path()); }), HasSubstr("checkpoint holds no weights"));
}

}  // namespace
}  // namespace nextscale::testing
