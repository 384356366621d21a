#include "nextscale/io/pth_tensor.h"

#include <algorithm>

#include <fmt/format.h>

#include "nextscale/base/error.h"
#include "nextscale/io/pickle_values.h"

namespace nextscale {
namespace {

constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kPlain = "torch._utils._rebuild_tensor", kSecond = "torch._utils._rebuild_tensor_v2",
                           kThird = "torch._utils._rebuild_tensor_v3";

/// A tuple, a list or torch.Size(tuple).
std::vector<int64_t> sizes(const PickleTree& tree, PickleId id, const char* what, const std::string& here) {
  const bool is_size = pickle_called(tree, id) == "torch.Size" && pickle_arguments(tree, id).size() == 1;
  return pickle_integers(tree, is_size ? pickle_arguments(tree, id)[0] : id, what, here);
}

/// A parameter holds its tensor as the first argument. Nobody nests them, so few steps are enough.
PickleId without_parameter(const PickleTree& tree, PickleId id) {
  for (int step = 0; step < 4 && pickle_called(tree, id) == kParameter && !pickle_arguments(tree, id).empty(); ++step) {
    id = pickle_arguments(tree, id)[0];
  }
  return id;
}

void check_bounds(const PthTensor& tensor, int64_t available, const std::string& here) {
  // of an empty tensor too: whoever makes one multiplies its other sizes
  int64_t bytes = item_bytes(tensor.dtype);
  for (const auto side : tensor.shape) {
    if (!checked_multiply(bytes, std::max<int64_t>(side, 1), &bytes)) {
      throw failure({here, "shape's product overflows 64 bits", {}, shape_text(tensor.shape)});
    }
  }
  int64_t last = tensor.offset;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    int64_t reach = 0;
    if (!checked_multiply(std::max<int64_t>(tensor.shape[i], 1) - 1, tensor.strides[i], &reach) ||
        !checked_add(last, reach, &last)) {
      throw failure({here, "strides overflow 64 bits", {}, shape_text(tensor.strides)});
    }
  }
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
  if (!empty && last >= available) {
    throw failure({here, "tensor reaches beyond its storage", fmt::format("at most {} values", available),
                   fmt::format("shape {}, strides {} from value {}", shape_text(tensor.shape),
                               shape_text(tensor.strides), tensor.offset)});
  }
}

}  // namespace

bool is_tensor(const PickleTree& tree, PickleId id) {
  const auto name = pickle_called(tree, id);
  return name == kParameter || name == kPlain || name == kSecond || name == kThird;
}

PthTensor rebuild_tensor(const PickleTree& tree, PickleId id, PthStorages& storages, const std::string& here) {
  id = without_parameter(tree, id);
  const auto name = pickle_called(tree, id);
  const size_t fewest = name == kPlain ? 4 : name == kSecond ? 6 : 7;  // then flags, hooks and the dtype
  if (!is_tensor(tree, id) || name == kParameter || pickle_arguments(tree, id).size() < fewest) {
    throw failure(
        {here, "tensor is damaged", "storage, offset, shape and strides", std::string(kind_name(tree.at(id).kind))});
  }
  const auto& given = pickle_arguments(tree, id);
  if (tree.at(given[0]).kind != PickleKind::persistent) {
    throw failure({here, "tensor is damaged", "a storage", std::string(kind_name(tree.at(given[0]).kind))});
  }
  if (given.size() > fewest && tree.at(given[fewest]).kind == PickleKind::dict &&
      !tree.at(given[fewest]).parts().empty()) {
    throw failure({here, "tensor is a negated or conjugate view, which is not read", {}, {}});
  }
  const auto claim = storage_claim(tree, given[0], here);
  PthTensor tensor;
  if (name == kThird) {
    const auto& type = tree.at(given[6]);
    const auto dtype = type.kind == PickleKind::global ? dtype_from_torch_name(type.text()) : std::nullopt;
    if (!dtype) throw failure({here, "unsupported type", "torch.float32 or another real, integer or bool one", {}});
    tensor.dtype = *dtype;
  } else if (claim.dtype) {
    tensor.dtype = *claim.dtype;
  } else {
    tensor.dtype = Dtype::u8;
  }
  tensor.offset = pickle_integer(tree, given[1], "offset", here);
  tensor.shape = sizes(tree, given[2], "shape", here);
  tensor.strides = sizes(tree, given[3], "strides", here);
  if (tensor.shape.size() != tensor.strides.size()) {
    throw failure({here, "shape and strides differ in length", fmt::format("{}", tensor.shape.size()),
                   fmt::format("{}", tensor.strides.size())});
  }
  tensor.storage = storages.get(claim, here);
  check_bounds(tensor, static_cast<int64_t>(tensor.storage.bytes.size()) / item_bytes(tensor.dtype), here);
  return tensor;
}

bool PthTensor::contiguous() const {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return true;
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != step) return false;
    step *= shape[i];
  }
  return true;
}

std::span<const std::byte> PthTensor::data() const {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return {};
  int64_t last = 0;
  for (size_t i = 0; i < shape.size(); ++i) last += (shape[i] - 1) * strides[i];
  const auto item = item_bytes(dtype);
  return storage.bytes.subspan(static_cast<size_t>(offset * item), static_cast<size_t>((last + 1) * item));
}

}  // namespace nextscale
