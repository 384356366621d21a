#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nextscale/base/options.h"

namespace nextscale {

/// How pictures are found and cut; declared once for every verb that takes --data.
struct DataOptions {
  std::string data;
  int64_t side = 0;
  std::string crop = "auto";
  double mid_reso = 1.125;
  bool hflip = false;
  double val_share = 0.05;
  std::string class_index;
  bool unconditional = false;
  int64_t channels = 0;
  bool apply_exif = false;
  bool skip_bad = false;
  int64_t workers = 2;

  static constexpr auto table() {
    using O = DataOptions;
    return std::tuple{
        option("data", &O::data,
               "folder of class folders, folder of pictures, IDX files, or tar files of such folders"),
        option("side", &O::side, "side of the square pictures in pixels; 0 = that of the data (all must have it)",
               between(0, 4096)),
        option("crop", &O::crop,
               "auto: none where all pictures have the side, else the reference's resize and random crop; none; "
               "random; center",
               one_of("auto", "none", "random", "center")),
        option("mid_reso", &O::mid_reso, "shorter side before the crop, in sides", between(1.0, 4.0)),
        option("hflip", &O::hflip, "mirror half of the training pictures"),
        option("val_share", &O::val_share, "share held out by a hash of the name where the data has no val part",
               between(0.0, 0.9)),
        option("class_index", &O::class_index,
               "file with index, folder and name of each class; empty = sorted folder names"),
        option("unconditional", &O::unconditional, "ignore classes"),
        option("channels", &O::channels, "1 grey, 3 colour; 0 = that of the data (folders of picture files: 3)",
               between(0, 3)),
        option("apply_exif", &O::apply_exif, "turn pictures as their EXIF orientation says (the reference does not)"),
        option("skip_bad", &O::skip_bad,
               "the next good picture of its class takes the place of one that cannot be decoded; counted and named in "
               "the run's record"),
        option("workers", &O::workers, "threads that read pictures", between(0, 256)),
    };
  }
};

/// One part (training or held out) of a data set: pictures of one size and their classes.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  /// Class of picture i; 0 where there are no classes.
  virtual int64_t label(int64_t i) const = 0;
  /// Decoded picture i as uint8 (H, W, channels), before resize and crop. Safe to call from several threads.
  /// @throws Error failure naming the picture
  virtual at::Tensor picture(int64_t i) const = 0;
  /// For messages: "train/n01440764/x.JPEG", "train-images-idx3-ubyte.gz[17]".
  virtual std::string name(int64_t i) const = 0;
  /// With --skip-bad: another picture was given for picture i. Known once picture(i) was called.
  virtual bool is_replaced(int64_t) const { return false; }
  /// Why pictures that were met so far cannot be decoded, a line each, in the part's order.
  virtual std::vector<std::string> faults() const { return {}; }
};

struct DataParts {
  std::shared_ptr<const Dataset> train, val;
  std::vector<std::string> class_names;  ///< by index; empty without classes
  int64_t side = 0;                      ///< of the pictures that come out
  int64_t channels = 3;
  bool resize = false;      ///< the reference's resize and crop are to be applied
  std::string fingerprint;  ///< hash of names, labels and sizes: a resumed run refuses other data
  int64_t classes() const { return static_cast<int64_t>(class_names.size()); }
};

/// Finds the parts below options.data (see the rules in docs/data.md).
/// @throws Error failure naming folder or file
DataParts open_data(const DataOptions& options);

}  // namespace nextscale
