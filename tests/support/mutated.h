#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>

namespace nextscale::testing {

/// One to four changes of the kinds that break readers: a flipped bit, another byte, an extreme number, a cut, a part
/// twice, bytes put in.
inline std::string mutated(std::string bytes, std::mt19937_64& random) {
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

}  // namespace nextscale::testing
