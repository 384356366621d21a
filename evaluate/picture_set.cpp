#include "nextscale/evaluate/picture_set.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/data/crops.h"
#include "nextscale/data/file_store.h"
#include "nextscale/data/picture.h"
#include "nextscale/data/stored_dataset.h"
#include "nextscale/evaluate/samples.h"
#include "nextscale/io/archive.h"
#include "nextscale/io/mapped_file.h"

namespace nextscale {
namespace {

namespace fs = std::filesystem;

/// Pictures of a folder or tar file.
class StoredPictures : public Dataset {
 public:
  StoredPictures(std::shared_ptr<const FileStore> store, const CropSettings& crop)
      : store_(std::move(store)), crop_(crop) {
    const auto& pictures = store_->pictures();
    std::vector<size_t> all(pictures.size()), named;
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    std::sort(all.begin(), all.end(), [&](size_t a, size_t b) { return pictures[a].name < pictures[b].name; });
    for (const size_t i : all) {
      if (class_in_name(file_name(i))) named.push_back(i);
    }
    order_ = named.empty() ? all : named;
    if (order_.empty()) throw failure({.where = store_->where(), .what = "no pictures inside"});
    std::map<std::string, int64_t> folders;
    for (const size_t i : order_) folders.emplace(folder(i), 0);
    int64_t next = 0;
    for (auto& [name, index] : folders) index = next++;
    for (const size_t i : order_) {
      const auto own = class_in_name(file_name(i));
      labels_.push_back(own ? *own : folders.size() > 1 ? folders.at(folder(i)) : -1);
    }
  }
  int64_t size() const override { return static_cast<int64_t>(order_.size()); }
  int64_t label(int64_t i) const override { return labels_.at(static_cast<size_t>(i)); }
  std::string name(int64_t i) const override { return store_->shown(at(i)); }
  at::Tensor picture(int64_t i) const override {
    const auto content = store_->content(at(i));
    const auto where = store_->where() + "/" + store_->pictures()[at(i)].name;
    if (has_transparency(content.bytes, where)) {
      throw failure({where,
                     "picture has an alpha channel, which no evaluator defines "
                     "a meaning for",
                     "colour or grey without transparency",
                     {}});
    }
    return cropped(decode_picture(content.bytes, 3, where), crop_);
  }

 private:
  size_t at(int64_t i) const { return order_.at(static_cast<size_t>(i)); }
  std::string file_name(size_t i) const { return fs::path(store_->pictures()[i].name).filename().string(); }
  std::string folder(size_t i) const {
    const auto& name = store_->pictures()[i].name;
    return name.substr(0, std::min(name.find('/'), name.size()) == name.size() ? 0 : name.find('/'));
  }
  std::shared_ptr<const FileStore> store_;
  CropSettings crop_;
  std::vector<size_t> order_;
  std::vector<int64_t> labels_;
};

class NpzPictures : public Dataset {
 public:
  NpzPictures(std::shared_ptr<NpzFile> npz, const std::string& where, const CropSettings& crop)
      : npz_(std::move(npz)), where_(where), crop_(crop) {
    const auto& array = npz_->array("arr_0");
    const auto here = where_ + ": arr_0";
    if (array.dtype != Dtype::u8) {
      throw failure(
          {here, "holds other numbers than pictures of 8 bits", "uint8", std::string(numpy_name(array.dtype))});
    }
    if (array.shape.size() != 4) {
      throw failure({here, "holds no colour pictures", "(N, H, W, 3)", shape_text(array.shape)});
    }
    if (array.shape[3] != 3) {
      const bool first = array.shape[1] == 3;
      throw failure({here, first ? "looks channels-first" : "has another number of channels", "(N, H, W, 3)",
                     shape_text(array.shape)});
    }
    if (array.shape[0] == 0 || array.shape[1] == 0 || array.shape[2] == 0) {
      throw failure({here, "holds no pictures", "(N, H, W, 3)", shape_text(array.shape)});
    }
    shape_ = array.shape;
    values_ = reinterpret_cast<const uint8_t*>(array.data.bytes.data());
    read_labels();
  }
  int64_t size() const override { return shape_[0]; }
  int64_t label(int64_t i) const override { return labels_.empty() ? -1 : labels_.at(static_cast<size_t>(i)); }
  std::string name(int64_t i) const override { return fmt::format("{}: arr_0[{}]", where_, i); }
  at::Tensor picture(int64_t i) const override {
    const auto bytes = shape_[1] * shape_[2] * 3;
    auto view = at::from_blob(const_cast<uint8_t*>(values_) + i * bytes, {shape_[1], shape_[2], 3}, at::kByte);
    return cropped(view, crop_);
  }

 private:
  void read_labels() {
    if (!npz_->has("arr_1")) return;
    const auto& labels = npz_->array("arr_1");
    const auto here = where_ + ": arr_1";
    if (labels.dtype != Dtype::i64 || labels.shape != std::vector<int64_t>{shape_[0]}) {
      throw failure({here, "holds no labels of these pictures", fmt::format("int64 ({})", shape_[0]),
                     fmt::format("{} {}", numpy_name(labels.dtype), shape_text(labels.shape))});
    }
    labels_.resize(static_cast<size_t>(shape_[0]));
    std::copy_n(labels.data.bytes.data(), labels.data.bytes.size(), reinterpret_cast<std::byte*>(labels_.data()));
  }
  std::shared_ptr<NpzFile> npz_;
  std::string where_;
  CropSettings crop_;
  std::vector<int64_t> shape_, labels_;
  const uint8_t* values_ = nullptr;
};

/// some-images-idx3-ubyte.gz -> some-labels-idx1-ubyte.gz
fs::path labels_beside(const fs::path& images) {
  auto name = images.filename().string();
  for (const auto& [from, to] : {std::pair{"images", "labels"}, {"idx3", "idx1"}, {"idx4", "idx1"}}) {
    if (const auto at = name.rfind(from); at != std::string::npos) name.replace(at, std::string_view(from).size(), to);
  }
  return images.parent_path() / name;
}

/// Grey or colour pictures of an IDX file.
class IdxPictures : public Dataset {
 public:
  IdxPictures(const fs::path& path, const CropSettings& crop) : crop_(crop) {
    DataOptions options;
    options.data = path.string();
    options.val_share = 0;
    options.unconditional = !fs::exists(labels_beside(path));
    pictures_ = open_data(options).train;
  }
  int64_t size() const override { return pictures_->size(); }
  int64_t label(int64_t i) const override { return pictures_->label(i); }
  std::string name(int64_t i) const override { return pictures_->name(i); }
  at::Tensor picture(int64_t i) const override {
    return cropped(with_channels(pictures_->picture(i), 3).contiguous(), crop_);
  }

 private:
  CropSettings crop_;
  std::shared_ptr<const Dataset> pictures_;
};

}  // namespace

at::Tensor cropped(const at::Tensor& picture, const CropSettings& settings) {
  const int64_t side = settings.side;
  if (side == 0 || (picture.size(0) == side && picture.size(1) == side)) return picture;
  const auto resized = resize_shorter_side(picture, mid_length(settings.mid_reso, side));
  return crop(resized, center_offsets(resized.size(0), resized.size(1), side), side);
}

std::shared_ptr<const Dataset> pictures_of_npz(std::shared_ptr<NpzFile> npz, const std::string& where,
                                               const CropSettings& crop) {
  return std::make_shared<NpzPictures>(std::move(npz), where, crop);
}

std::shared_ptr<const Dataset> open_picture_set(const fs::path& path, const CropSettings& crop) {
  std::error_code code;
  const auto status = fs::status(path, code);
  if (!fs::exists(status)) throw failure({.where = path.string(), .what = "no such file or folder"});
  if (fs::is_directory(status)) return std::make_shared<StoredPictures>(open_folder(path), crop);
  if (is_archive_name(path)) return std::make_shared<StoredPictures>(open_archive(path), crop);
  if (is_idx_images_name(path.filename().string())) return std::make_shared<IdxPictures>(path, crop);
  return pictures_of_npz(std::make_shared<NpzFile>(path), path.string(), crop);
}

}  // namespace nextscale
