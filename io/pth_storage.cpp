#include "nextscale/io/pth_storage.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/pickle_text.h"
#include "nextscale/io/pickle_values.h"

namespace nextscale {
namespace {

struct TorchRow {
  Dtype dtype;
  std::string_view dtype_name, storage_name;
};
constexpr std::array<TorchRow, 13> kRows{{{Dtype::f64, "torch.float64", "torch.DoubleStorage"},
                                          {Dtype::f32, "torch.float32", "torch.FloatStorage"},
                                          {Dtype::f16, "torch.float16", "torch.HalfStorage"},
                                          {Dtype::bf16, "torch.bfloat16", "torch.BFloat16Storage"},
                                          {Dtype::i64, "torch.int64", "torch.LongStorage"},
                                          {Dtype::i32, "torch.int32", "torch.IntStorage"},
                                          {Dtype::i16, "torch.int16", "torch.ShortStorage"},
                                          {Dtype::i8, "torch.int8", "torch.CharStorage"},
                                          {Dtype::u64, "torch.uint64", ""},
                                          {Dtype::u32, "torch.uint32", ""},
                                          {Dtype::u16, "torch.uint16", ""},
                                          {Dtype::u8, "torch.uint8", "torch.ByteStorage"},
                                          {Dtype::boolean, "torch.bool", "torch.BoolStorage"}}};
constexpr std::string_view kFunctions[] = {"torch._utils._rebuild_tensor",
                                           "torch._utils._rebuild_tensor_v2",
                                           "torch._utils._rebuild_tensor_v3",
                                           "torch._utils._rebuild_parameter",
                                           "torch.Size",
                                           "torch.device",
                                           kUntypedStorage};

bool is_storage_class(std::string_view name) {
  if (!name.starts_with("torch.") || !name.ends_with("Storage")) return false;
  name.remove_prefix(6);
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
}

/// Newer files number storages with texts, old ones sometimes with integers.
std::string key_at(const PickleTree& tree, PickleId id, const std::string& here) {
  const auto& node = tree.at(id);
  if (node.kind == PickleKind::text && node.text().size() <= 1000) return std::string(node.text());
  if (node.kind == PickleKind::integer) return fmt::format("{}", node.integer());
  throw failure({here, "storage's key is damaged", "a short text", std::string(kind_name(node.kind))});
}

std::string type_text(const StorageClaim& claim) {
  return fmt::format("{} values of {}", claim.count, claim.dtype ? torch_dtype_name(*claim.dtype) : "one byte");
}

}  // namespace

bool is_torch_name(std::string_view name) {
  return is_storage_class(name) || dtype_from_torch_name(name) ||
         std::find(std::begin(kFunctions), std::end(kFunctions), name) != std::end(kFunctions);
}

std::string_view torch_dtype_name(Dtype dtype) { return kRows.at(static_cast<size_t>(dtype)).dtype_name; }
std::string_view torch_storage_name(Dtype dtype) { return kRows.at(static_cast<size_t>(dtype)).storage_name; }

std::optional<Dtype> dtype_from_torch_name(std::string_view name) {
  for (const auto& row : kRows) {
    if (row.dtype_name == name) return row.dtype;
  }
  return std::nullopt;
}

StorageClaim storage_claim(const PickleTree& tree, PickleId persistent, const std::string& here) {
  const auto& id = tree.at(tree.at(persistent).parts()[0]);
  if (id.kind != PickleKind::tuple || id.parts().size() < 5) {
    throw failure({here, "reference to a storage is damaged", "a tuple of 5 or 6", std::string(kind_name(id.kind))});
  }
  const auto& parts = id.parts();
  const auto& word = tree.at(parts[0]);
  if (word.kind != PickleKind::text || word.text() != "storage") {
    throw failure({here, "file refers to something else than a storage", "storage",
                   word.kind == PickleKind::text ? printable(word.text(), 40) : std::string(kind_name(word.kind))});
  }
  const auto& type = tree.at(parts[1]);
  StorageClaim claim;
  if (type.kind == PickleKind::global && type.text() != kUntypedStorage) {
    for (const auto& row : kRows) {
      if (!row.storage_name.empty() && row.storage_name == type.text()) claim.dtype = row.dtype;
    }
  }
  if (type.kind != PickleKind::global || (!claim.dtype && type.text() != kUntypedStorage)) {
    throw failure({here, "unsupported storage type", "torch.FloatStorage or another real, integer or bool one",
                   type.kind == PickleKind::global ? printable(type.text(), 60) : std::string(kind_name(type.kind))});
  }
  claim.key = key_at(tree, parts[2], here);
  claim.count = pickle_integer(tree, parts[4], "size of its storage", here);
  claim.view_count = claim.count;
  if (parts.size() > 5 && tree.at(parts[5]).kind != PickleKind::none) {
    const auto& view = tree.at(parts[5]);  // (key of the view, offset, size)
    if (view.kind != PickleKind::tuple || view.parts().size() != 3) {
      throw failure({here, "view of a storage is damaged", "a tuple of 3", std::string(kind_name(view.kind))});
    }
    claim.view_begin = pickle_integer(tree, view.parts()[1], "offset of its storage", here);
    claim.view_count = pickle_integer(tree, view.parts()[2], "size of its storage", here);
  }
  int64_t bytes = 0;
  if (!checked_multiply(claim.count, claim.item(), &bytes)) {
    throw failure({here, "size of its storage overflows", {}, type_text(claim)});
  }
  if (claim.view_begin > claim.count || claim.view_count > claim.count - claim.view_begin) {
    throw failure({here, "view reaches beyond its storage", fmt::format("{} values", claim.count),
                   fmt::format("{} values from {}", claim.view_count, claim.view_begin)});
  }
  return claim;
}

SharedBytes PthStorages::get(const StorageClaim& claim, const std::string& here) {
  auto known = known_.find(claim.key);
  if (known == known_.end()) {
    auto found = find_(claim);
    if (!found) {
      throw failure({here, "its storage is not in the file", "storage " + printable(claim.key, 80), {}});
    }
    const auto wanted = static_cast<size_t>(claim.count * claim.item());
    if (found->bytes.size() != wanted) {
      throw failure({here, fmt::format("storage {} has another size", printable(claim.key, 80)),
                     fmt::format("{} bytes ({})", wanted, type_text(claim)),
                     fmt::format("{} bytes", found->bytes.size())});
    }
    known = known_.emplace(claim.key, Known{claim, std::move(*found)}).first;
  } else if (const auto& before = known->second.claim; before.dtype != claim.dtype || before.count != claim.count) {
    throw failure({here, fmt::format("storage {} is used in two ways", printable(claim.key, 80)), type_text(before),
                   type_text(claim)});
  }
  const auto& all = known->second.bytes;
  return {all.owner, all.bytes.subspan(static_cast<size_t>(claim.view_begin * claim.item()),
                                       static_cast<size_t>(claim.view_count * claim.item()))};
}

}  // namespace nextscale
