#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "nextscale/io/bytes.h"
#include "nextscale/tests/fuzz/one_input.h"
#include "nextscale/tests/support/temporary_directory.h"

namespace nextscale::testing {
namespace {

using OneInput = bool (*)(std::span<const std::byte>);

struct Reader {
  std::string name;
  OneInput one_input;
  int mutations;
};
std::ostream& operator<<(std::ostream& out, const Reader& reader) { return out << reader.name; }

struct Seed {
  std::string name, bytes;
};

std::vector<Seed> seeds_of(const Reader& reader) {
  std::vector<Seed> seeds;
  const auto folder = std::filesystem::path(NEXTSCALE_SOURCE_DIR) / "tests/corpus" / reader.name;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    seeds.push_back({file.path().filename().string(), read_file(file.path())});
  }
  std::sort(seeds.begin(), seeds.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return seeds;
}

/// One to four changes of the kinds that break readers: a flipped bit, another byte, an extreme number, a cut, a part
/// twice, bytes put in.
std::string mutated(std::string bytes, std::mt19937_64& random) {
  const auto below = [&random](size_t n) { return n == 0 ? 0 : static_cast<size_t>(random() % n); };
  for (auto left = 1 + below(4); left > 0; --left) {
    if (bytes.empty()) return bytes;
    const auto at = below(bytes.size());
    switch (below(7)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(below(256));
        break;
      case 2: {
        static constexpr const char* kDigits[] = {"0",   "9", "-1", "18446744073709551615", "9223372036854775807",
                                                  "1e9", "\""};
        bytes.replace(at, 1, kDigits[below(std::size(kDigits))]);
        break;
      }
      case 3:
        for (size_t i = at; i < std::min(at + 8, bytes.size()); ++i) bytes[i] = below(2) == 0 ? '\xFF' : '\0';
        break;
      case 4:
        bytes.resize(at);
        break;
      case 5:
        bytes.insert(at, bytes.substr(below(bytes.size()), below(64)));
        break;
      default:
        bytes.erase(at, below(16));
    }
  }
  return bytes;
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
      // a tar may lose the second zero block of its end marker, which readers take for enough
      const bool spared = GetParam().name == "tar" && size + 512 >= seed.bytes.size();
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
  // a mutation that never passes, or always, would test nothing
  EXPECT_GT(read, GetParam().mutations / 1000);
  EXPECT_LT(read, GetParam().mutations * 9 / 10);
}

INSTANTIATE_TEST_SUITE_P(Readers, Corpus,
                         ::testing::Values(Reader{"safetensors", one_safetensors, 40'000},
                                           Reader{"idx", one_idx, 40'000}, Reader{"tar", one_tar, 20'000}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace nextscale::testing
