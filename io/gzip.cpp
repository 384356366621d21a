#include "nextscale/io/gzip.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <zlib.h>

#include "nextscale/base/error.h"

namespace nextscale {
namespace {

constexpr size_t kMostAtOnce = std::numeric_limits<uInt>::max() / 2;  // zlib counts in 32 bits

}  // namespace

struct GzipReader::Stream {
  z_stream z{};
};

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1F} && bytes[1] == std::byte{0x8B};
}

int64_t gzip_most_bytes(size_t compressed) {
  constexpr size_t kRatio = 1032, kMost = static_cast<size_t>(std::numeric_limits<int64_t>::max());
  return static_cast<int64_t>(compressed > kMost / kRatio ? kMost : compressed * kRatio);
}

GzipReader::GzipReader(std::span<const std::byte> file, std::string where)
    : stream_(std::make_unique<Stream>()), left_(file), where_(std::move(where)) {
  constexpr int kGzipOnly = 16;
  if (inflateInit2(&stream_->z, MAX_WBITS + kGzipOnly) != Z_OK)
    throw failure({where_, "cannot be decompressed", {}, {}});
}

GzipReader::~GzipReader() { inflateEnd(&stream_->z); }

size_t GzipReader::read(std::span<std::byte> out) {
  auto& z = stream_->z;
  size_t done = 0;
  while (done < out.size() && !ended_) {
    const auto in_now = std::min(left_.size(), kMostAtOnce), out_now = std::min(out.size() - done, kMostAtOnce);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(left_.data()));
    z.avail_in = static_cast<uInt>(in_now);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + done);
    z.avail_out = static_cast<uInt>(out_now);
    const int result = inflate(&z, Z_NO_FLUSH);
    const auto produced = out_now - z.avail_out;
    const bool moved = produced > 0 || z.avail_in < in_now;
    left_ = left_.subspan(in_now - z.avail_in);
    done += produced;
    position_ += produced;
    if (result == Z_STREAM_END) {
      if (left_.empty()) {
        ended_ = true;
      } else if (!is_gzip(left_)) {
        throw failure({where_, "gzip stream is followed by something else", "its end",
                       fmt::format("{} more bytes", left_.size())});
      } else if (inflateReset(&z) != Z_OK) {
        throw failure({where_, "cannot be decompressed", {}, {}});
      }
    } else if ((result == Z_OK || result == Z_BUF_ERROR) && left_.empty() && done < out.size()) {
      throw failure({where_, fmt::format("gzip stream is cut off after {} bytes of content", position_), {}, {}});
    } else if (result != Z_OK || !moved) {
      throw failure({where_, fmt::format("gzip stream is damaged after {} bytes of content", position_), {}, {}});
    }
  }
  return done;
}

}  // namespace nextscale
