#include "nextscale/io/pth.h"

#include <unordered_map>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/pickle.h"
#include "nextscale/io/pickle_text.h"
#include "nextscale/io/pth_entries.h"
#include "nextscale/io/pth_storage.h"

namespace nextscale {
namespace {

constexpr std::string_view kPickle = "data.pkl";
constexpr std::string_view kLegacyMagic = "119547037146038801333356";  // 0x1950a86a20f9469cfc6c
constexpr int64_t kLegacyProtocol = 1001;

bool is_pickle(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x80} && bytes[1] >= std::byte{2} && bytes[1] <= std::byte{5};
}

// --- the zip form ----------------------------------------------------------------------------------------------------

/// FOLDER/data.pkl; the folder is named after the file as it was saved.
const ZipEntry& find_pickle(const ZipReader& zip, const std::string& where) {
  const ZipEntry* found = nullptr;
  for (const auto& entry : zip.entries()) {
    if (!entry.name.ends_with(kPickle)) continue;
    const auto folder = std::string_view(entry.name).substr(0, entry.name.size() - kPickle.size());
    if (!folder.empty() && folder.find('/') != folder.size() - 1) continue;
    if (found) throw failure({where, "zip archive holds data.pkl twice", {}, {}});
    found = &entry;
  }
  if (!found) throw failure({where, "not a PyTorch file", "a zip archive with data.pkl", "one without it"});
  return *found;
}

PthFile parse_zip(const SharedBytes& file, const std::string& where, ZipChecksums checksums) {
  ZipReader zip(file, where);
  const auto& entry = find_pickle(zip, where);
  const auto folder = entry.name.substr(0, entry.name.size() - kPickle.size());
  if (zip.find(folder + "constants.pkl")) {
    throw failure({where, "a TorchScript archive, which holds code", "a file of torch.save(state_dict)", {}});
  }
  if (const auto* order = zip.find(folder + "byteorder")) {
    const auto content = zip.read(*order, checksums);
    const auto text = as_text(content.bytes);
    if (text != "little") throw failure({where, "byte order cannot be read", "little", printable(text, 40)});
  }
  // a damaged name or shape would go unnoticed, and the pickle is small
  const auto pickle = zip.read(entry, checksums == ZipChecksums::never ? checksums : ZipChecksums::always);
  const auto tree = parse_pickle(pickle.bytes, where + ": " + entry.name, is_torch_name);
  PthStorages storages([&](const StorageClaim& claim) -> std::optional<SharedBytes> {
    const auto* found = zip.find(folder + "data/" + claim.key);
    if (!found) return std::nullopt;
    return zip.read(*found, checksums);
  });
  return pth_entries(tree, storages, file.bytes.size(), where);
}

// --- the form before zip ---------------------------------------------------------------------------------------------

/// Five pickles (a magic number, the version, the machine, the object, the keys of its storages), then per storage the
/// number of its values in 8 bytes and the values.
class LegacyFile {
 public:
  LegacyFile(const SharedBytes& file, const std::string& where) : file_(file), where_(where) {}

  PthFile parse() {
    const auto magic = next("magic number");
    if (magic.at(magic.root).kind != PickleKind::big_integer || magic.at(magic.root).text() != kLegacyMagic) {
      throw failure({where_, "a pickle, but not one of PyTorch", "its magic number", {}});
    }
    const auto version = next("version");
    if (const auto& number = version.at(version.root);
        number.kind != PickleKind::integer || number.integer() != kLegacyProtocol) {
      throw failure({where_, "unknown version of the format", fmt::format("{}", kLegacyProtocol), {}});
    }
    check_machine(next("machine"));
    const auto object = next("object");
    read_storages(object, next("list of storages"));
    PthStorages storages([this](const StorageClaim& claim) -> std::optional<SharedBytes> {
      const auto found = storages_.find(claim.key);
      return found == storages_.end() ? std::nullopt : std::optional(found->second);
    });
    return pth_entries(object, storages, file_.bytes.size(), where_);
  }

 private:
  PickleTree next(const char* what) {
    const auto left = file_.bytes.subspan(at_);
    if (left.empty()) throw failure({where_, fmt::format("file is cut off before its {}", what), {}, {}});
    auto tree = parse_pickle(left, where_ + ": " + what, is_torch_name);
    at_ += tree.bytes;
    return tree;
  }

  void check_machine(const PickleTree& machine) const {
    const auto& dict = machine.at(machine.root);
    if (dict.kind != PickleKind::dict) throw failure({where_ + ": machine", "damaged", "a dict", {}});
    for (size_t i = 0; i < dict.parts().size(); i += 2) {
      const auto& key = machine.at(dict.parts()[i]);
      const auto& value = machine.at(dict.parts()[i + 1]);
      if (key.kind != PickleKind::text || key.text() != "little_endian") continue;
      if (value.kind != PickleKind::boolean || !value.boolean()) {
        throw failure({where_, "byte order cannot be read", "little", "big"});
      }
    }
  }

  /// How long a storage's values are only the object's pickle says.
  void read_storages(const PickleTree& object, const PickleTree& keys) {
    std::unordered_map<std::string, StorageClaim> claims;
    for (size_t i = 0; i < object.nodes.size(); ++i) {
      if (object.nodes[i].kind != PickleKind::persistent) continue;
      auto claim = storage_claim(object, static_cast<PickleId>(i), where_);
      const auto key = claim.key;
      claims.emplace(key, std::move(claim));
    }
    const auto& list = keys.at(keys.root);
    if (list.kind != PickleKind::list) {
      throw failure({where_, "list of storages is damaged", "a list", std::string(kind_name(list.kind))});
    }
    for (const auto id : list.parts()) {
      const auto& key = keys.at(id);
      if (key.kind != PickleKind::text && key.kind != PickleKind::integer) {
        throw failure({where_, "list of storages is damaged", "texts", std::string(kind_name(key.kind))});
      }
      read_storage(key.kind == PickleKind::text ? std::string(key.text()) : fmt::format("{}", key.integer()), claims);
    }
  }

  void read_storage(const std::string& key, const std::unordered_map<std::string, StorageClaim>& claims) {
    const auto here = fmt::format("{}: storage {}", where_, printable(key, 80));
    const auto claim = claims.find(key);
    if (claim == claims.end()) throw failure({here, "no tensor belongs to it, so its size is unknown", {}, {}});
    ByteCursor cursor(file_.bytes.subspan(at_), here);
    const auto count = cursor.u64_little_endian("size");
    if (count != static_cast<uint64_t>(claim->second.count)) {
      throw failure({here, "storage has another size", fmt::format("{} values", claim->second.count),
                     fmt::format("{} values", count)});
    }
    const auto bytes = cursor.take(static_cast<size_t>(claim->second.count * claim->second.item()), "storage");
    at_ += cursor.position();
    if (!storages_.emplace(key, SharedBytes{file_.owner, bytes}).second) {
      throw failure({here, "storage comes twice", {}, {}});
    }
  }

  const SharedBytes& file_;
  const std::string& where_;
  size_t at_ = 0;
  std::unordered_map<std::string, SharedBytes> storages_;
};

}  // namespace

bool looks_like_pth(std::span<const std::byte> bytes) { return is_zip(bytes) || is_pickle(bytes); }

PthFile parse_pth(const SharedBytes& file, const std::string& where, ZipChecksums checksums) {
  if (is_zip(file.bytes)) return parse_zip(file, where, checksums);
  if (is_pickle(file.bytes)) return LegacyFile(file, where).parse();
  throw failure({where, "not a PyTorch file", "a zip archive or a pickle", file.bytes.empty() ? "an empty file" : ""});
}

}  // namespace nextscale
