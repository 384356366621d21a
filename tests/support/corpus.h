#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "nextscale/io/bytes.h"
#include "nextscale/tests/support/mutated.h"
#include "nextscale/tests/support/temporary_directory.h"

/// Replays the files of tests/corpus that fuzzers start from, cut and changed as well. A test program includes this
/// once and instantiates Corpus with its readers; files are called valid_…, hostile_… or crash_… (once found by a
/// fuzzer).
namespace nextscale::testing {

using OneInput = bool (*)(std::span<const std::byte>);

constexpr size_t kAnything = std::numeric_limits<size_t>::max();

struct Reader {
  std::string name;  ///< folder below tests/corpus
  OneInput one_input;
  int mutations;
  /// So many last bytes may be missing without harm: a tar's second zero block, a line end; kAnything: cuts may pass.
  size_t spared = 0;
  /// At most this share of mutated files is read: a mutation that always passes would test nothing.
  double most_read = 0.9;
};
inline std::ostream& operator<<(std::ostream& out, const Reader& reader) { return out << reader.name; }

struct Seed {
  std::string name, bytes;
};

inline std::vector<Seed> seeds_of(const Reader& reader) {
  std::vector<Seed> seeds;
  const auto folder = std::filesystem::path(NEXTSCALE_SOURCE_DIR) / "tests/corpus" / reader.name;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    seeds.push_back({file.path().filename().string(), read_file(file.path())});
  }
  std::sort(seeds.begin(), seeds.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return seeds;
}

class Corpus : public ::testing::TestWithParam<Reader> {};

TEST_P(Corpus, ValidFilesAreReadAndHostileOnesRefused) {
  const auto seeds = seeds_of(GetParam());
  ASSERT_GE(seeds.size(), 10u);
  for (const auto& seed : seeds) {
    const bool valid = seed.name.rfind("valid_", 0) == 0;
    ASSERT_TRUE(valid || seed.name.rfind("hostile_", 0) == 0 || seed.name.rfind("crash", 0) == 0) << seed.name;
    const bool read = GetParam().one_input(as_bytes(seed.bytes));
    EXPECT_TRUE(read == valid || seed.name.rfind("crash", 0) == 0) << seed.name;
  }
}

TEST_P(Corpus, EveryTruncationOfAValidFileIsRefused) {
  for (const auto& seed : seeds_of(GetParam())) {
    if (seed.name.rfind("valid_", 0) != 0) continue;
    for (size_t size = 0; size < seed.bytes.size(); ++size) {
      const std::string cut = seed.bytes.substr(0, size);
      const bool read = GetParam().one_input(as_bytes(cut));
      const bool spared = seed.bytes.size() - size <= GetParam().spared;
      EXPECT_TRUE(!read || spared) << seed.name << " cut to " << size << " bytes";
    }
  }
}

TEST_P(Corpus, MutatedFilesAreReadOrRefusedAndNeverCrash) {
  const auto seeds = seeds_of(GetParam());
  std::mt19937_64 random(20240607);
  int read = 0;
  for (int i = 0; i < GetParam().mutations; ++i) {
    const auto& seed = seeds[static_cast<size_t>(random() % seeds.size())];
    // copied to the heap exactly, so that a sanitizer sees a read beyond it
    const auto input = mutated(seed.bytes, random);
    const std::vector<char> exact(input.begin(), input.end());
    read += GetParam().one_input(as_bytes({exact.data(), exact.size()})) ? 1 : 0;
  }
  EXPECT_GT(read, GetParam().mutations / 1000);
  EXPECT_LE(read, GetParam().mutations * GetParam().most_read);
}

inline std::string reader_name(const ::testing::TestParamInfo<Reader>& info) { return info.param.name; }

}  // namespace nextscale::testing
