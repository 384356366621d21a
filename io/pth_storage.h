#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "nextscale/io/bytes.h"
#include "nextscale/io/pickle.h"
#include "nextscale/io/safetensors.h"

namespace nextscale {

/// Names that a file of torch.save may hold: how tensors are put together, storages, types, sizes, devices.
bool is_torch_name(std::string_view name);
std::string_view torch_dtype_name(Dtype dtype);                     ///< "torch.float32"
std::string_view torch_storage_name(Dtype dtype);                   ///< "torch.FloatStorage", empty if there is none
std::optional<Dtype> dtype_from_torch_name(std::string_view name);  ///< of "torch.float32"
inline constexpr std::string_view kUntypedStorage = "torch.storage.UntypedStorage";

/// What a pickle says of a storage: ('storage', type, key, device, values[, view]).
struct StorageClaim {
  std::string key;
  std::optional<Dtype> dtype;  ///< none: bytes
  int64_t count = 0;           ///< values of the whole storage
  int64_t view_begin = 0;      ///< the part that is meant, in values (only old files mean less than all)
  int64_t view_count = 0;

  int64_t item() const { return dtype ? item_bytes(*dtype) : 1; }
};
/// @throws Error failure at `here`: malformed, an unsupported type, negative or overflowing numbers
StorageClaim storage_claim(const PickleTree& tree, PickleId persistent, const std::string& here);

/// The storages of one file by key.
class PthStorages {
 public:
  /// Bytes of a storage, none if the file does not hold it. `claim` says how long it should be.
  using Find = std::function<std::optional<SharedBytes>(const StorageClaim& claim)>;
  explicit PthStorages(Find find) : find_(std::move(find)) {}

  /// The claimed part of a storage.
  /// @throws Error failure at `here`: missing, another size, the key claimed with another type or size before
  SharedBytes get(const StorageClaim& claim, const std::string& here);

 private:
  struct Known {
    StorageClaim claim;
    SharedBytes bytes;
  };
  Find find_;
  std::unordered_map<std::string, Known> known_;
};

}  // namespace nextscale
