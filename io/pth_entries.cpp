#include "nextscale/io/pth_entries.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "nextscale/base/error.h"
#include "nextscale/io/pickle_text.h"
#include "nextscale/io/pth_tensor.h"

namespace nextscale {
namespace {

constexpr size_t kShownItems = 64;  // of a list of plain values
constexpr size_t kShownPath = 300;  // bytes, in errors

class Walk {
 public:
  Walk(const PickleTree& tree, PthStorages& storages, size_t file_bytes, const std::string& where)
      : tree_(tree),
        storages_(storages),
        where_(where),
        open_(tree.nodes.size()),
        // a value that stands in one place takes some bytes of the pickle, with its key more
        text_left_(std::min(kPthTextLimit, (size_t{8} << 20) + 100 * tree.bytes)),
        expansion_left_(static_cast<int64_t>(2 * file_bytes) + kPthExpansionLimit) {}

  PthFile run() {
    visit(tree_.root);
    while (!frames_.empty()) {
      auto& frame = frames_.back();
      const auto& node = tree_.at(frame.id);
      path_.resize(frame.path);
      if (frame.next == node.parts().size()) {
        open_[frame.id] = false;
        frames_.pop_back();
        continue;
      }
      if (frame.path > 0) path_ += '/';
      if (node.kind == PickleKind::dict) {
        append_key(node.parts()[frame.next]);
        frame.next += 2;
        visit(node.parts()[frame.next - 1]);  // may move the frames
      } else {
        path_ += fmt::format("{}", frame.next);
        frame.next += 1;
        visit(node.parts()[frame.next - 1]);
      }
    }
    check_paths();
    return std::move(file_);
  }

 private:
  struct Frame {
    PickleId id;
    size_t next;  // part to be visited
    size_t path;  // length of the container's own path
  };

  std::string here() const { return path_.empty() ? where_ : where_ + ": " + printable(path_, kShownPath); }

  /// A file that names the same values again and again would grow without end.
  void spend(size_t bytes) {
    constexpr size_t kEach = 128;  // what an entry takes beside its texts
    if (bytes + kEach > text_left_) throw failure({here(), "file holds too many values", {}, {}});
    text_left_ -= bytes + kEach;
  }

  void append_key(PickleId id) {
    const auto& key = tree_.at(id);
    if (key.kind == PickleKind::text) {
      spend(key.text().size());
      path_ += key.text();
    } else if (key.kind == PickleKind::integer) {
      path_ += fmt::format("{}", key.integer());
    } else if (key.kind == PickleKind::boolean) {
      path_ += key.boolean() ? "true" : "false";
    } else {
      throw failure({here(), "dict has a key that cannot be part of a name", "a text or an integer",
                     std::string(kind_name(key.kind))});
    }
  }

  void visit(PickleId id) {
    spend(path_.size());
    const auto& node = tree_.at(id);
    switch (node.kind) {
      case PickleKind::list:
      case PickleKind::tuple:
        spend(node.parts().size());
        if (is_plain_list(node)) return add_value(list_text(node));
        return enter(id);
      case PickleKind::dict:
        return enter(id);
      case PickleKind::object:
        return is_tensor(tree_, id) ? add_tensor(id) : add_object(node);
      case PickleKind::persistent:
        throw failure({here(), "a storage without a tensor is not read", {}, {}});
      default:
        spend(node.kind == PickleKind::text ? node.text().size() : 0);
        return add_value(value_text(node));
    }
  }

  void enter(PickleId id) {
    if (open_[id]) throw failure({here(), "file is cyclic: a value holds itself", {}, {}});
    if (frames_.size() >= kPthDepthLimit) {
      throw failure({here(), "file nests too deeply", fmt::format("at most {} levels", kPthDepthLimit), {}});
    }
    open_[id] = true;
    frames_.push_back({id, 0, path_.size()});
  }

  void add_value(std::string text) { file_.values.push_back({path_, std::move(text)}); }

  /// torch.Size, torch.device and other calls that make plain values.
  void add_object(const PickleNode& node) {
    const auto name = tree_.at(node.parts()[0]).text();
    const auto& given = tree_.at(node.parts()[1]).parts();
    if (name == "torch.Size" && given.size() == 1) return visit_plain(given[0]);
    std::string text;
    for (const auto part : given) {
      const auto& value = tree_.at(part);
      if (!is_plain(value) || text.size() > kShownPath) {
        throw failure({here(), "value is not read", "tensors and plain values", printable(name, 200)});
      }
      text += (text.empty() ? "" : ":") + printable(value_text(value), kShownPath);
    }
    add_value(std::move(text));  // "cuda:0"
  }
  void visit_plain(PickleId id) {
    const auto& node = tree_.at(id);
    if ((node.kind != PickleKind::tuple && node.kind != PickleKind::list) || !is_plain_list(node)) {
      throw failure({here(), "torch.Size is damaged", "a tuple of integers", std::string(kind_name(node.kind))});
    }
    spend(node.parts().size());
    add_value(list_text(node));
  }

  void add_tensor(PickleId id) {
    if (path_.empty() && frames_.empty()) path_ = "tensor";
    auto tensor = rebuild_tensor(tree_, id, storages_, here());
    if (!tensor.contiguous()) {
      int64_t bytes = item_bytes(tensor.dtype);  // the product was checked
      for (const auto side : tensor.shape) bytes *= side;
      if (bytes > expansion_left_) {
        throw failure({here(), "tensor is larger than its file explains",
                       fmt::format("at most {}", bytes_text(static_cast<uint64_t>(expansion_left_))),
                       bytes_text(static_cast<uint64_t>(bytes))});
      }
      expansion_left_ -= bytes;
    }
    spend(256 + 16 * tensor.shape.size());
    file_.tensors.push_back({path_, std::move(tensor)});
  }

  static bool is_plain(const PickleNode& node) { return node.kind <= PickleKind::text; }
  bool is_plain_list(const PickleNode& node) const {
    return std::all_of(node.parts().begin(), node.parts().end(),
                       [this](PickleId id) { return is_plain(tree_.at(id)); });
  }

  static std::string value_text(const PickleNode& node) {
    switch (node.kind) {
      case PickleKind::none:
        return "null";
      case PickleKind::boolean:
        return node.boolean() ? "true" : "false";
      case PickleKind::integer:
        return fmt::format("{}", node.integer());
      case PickleKind::real:
        return fmt::format("{}", node.real());
      case PickleKind::bytes:
        return fmt::format("{} bytes", node.text().size());
      default:
        return std::string(node.text());
    }
  }

  std::string list_text(const PickleNode& node) {
    if (node.parts().size() > kShownItems) return fmt::format("list of {} values", node.parts().size());
    std::string text = "[";
    for (const auto part : node.parts()) {
      const auto& item = tree_.at(part);
      if (text.size() > 1) text += ", ";
      if (item.kind == PickleKind::text) {
        spend(6 * item.text().size());  // escaped at worst
        text += nlohmann::json(item.text()).dump();
      } else {
        text += value_text(item);
      }
    }
    return text + "]";
  }

  /// {"a/b": …} beside {"a": {"b": …}}: one of them would be lost.
  void check_paths() const {
    std::vector<std::string_view> paths;
    for (const auto& entry : file_.tensors) paths.push_back(entry.path);
    std::sort(paths.begin(), paths.end());
    const auto twice = std::adjacent_find(paths.begin(), paths.end());
    if (twice == paths.end()) return;
    throw failure({where_ + ": " + printable(*twice, kShownPath), "two tensors have this name", {}, {}});
  }

  const PickleTree& tree_;
  PthStorages& storages_;
  const std::string& where_;
  PthFile file_;
  std::vector<Frame> frames_;
  std::vector<bool> open_;  // containers that are being visited
  std::string path_;
  size_t text_left_;
  int64_t expansion_left_;
};

}  // namespace

PthFile pth_entries(const PickleTree& tree, PthStorages& storages, size_t file_bytes, const std::string& where) {
  return Walk(tree, storages, file_bytes, where).run();
}

}  // namespace nextscale
