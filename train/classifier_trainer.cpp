#include "nextscale/train/classifier_trainer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/base/runtime.h"
#include "nextscale/io/weights.h"
#include "nextscale/train/pictures.h"

namespace nextscale {
namespace {

constexpr int64_t kValidationBatch = 250;
constexpr uint64_t kShiftStream = 0x5348494654;  // keeps shifts apart from the loader's orders and crops

DataParts fitting(DataParts parts, const ClassifierOptions& options) {
  const auto require = [](const std::string& what, int64_t expected, int64_t got) {
    if (expected == got) return;
    throw failure(
        {.where = "classifier", .what = what, .expected = std::to_string(expected), .got = std::to_string(got)});
  };
  if (parts.classes() == 0)
    throw failure({.where = "classifier", .what = "cannot be trained on pictures without classes"});
  require("number of classes differs from the data's", options.classes, parts.classes());
  require("side differs from the data's", options.side, parts.side);
  require("channels differ from the data's", options.channels, parts.channels);
  if (!parts.val || parts.val->size() == 0) {
    throw failure({.where = "classifier", .what = "no held-out pictures to measure it on (see --val-share)"});
  }
  return parts;
}

Classifier moved(Classifier classifier, const c10::Device& device) {
  classifier->to(device);
  return classifier;
}

bool is_weight(const std::string&, const at::Tensor& parameter) { return parameter.dim() > 1; }

}  // namespace

at::Tensor shifted(const at::Tensor& pictures, int64_t shift, at::Generator& generator) {
  if (shift == 0) return pictures;
  const int64_t batch = pictures.size(0), height = pictures.size(2), width = pictures.size(3);
  const auto offsets = at::randint(0, 2 * shift + 1, {batch, 2}, generator, at::kLong);  // (B, 2): down, right
  const auto offset = offsets.accessor<int64_t, 2>();
  const auto padded = at::replication_pad2d(pictures, {shift, shift, shift, shift});
  auto out = at::empty_like(pictures);
  for (int64_t i = 0; i < batch; ++i) {
    out[i].copy_(padded[i].narrow(1, offset[i][0], height).narrow(2, offset[i][1], width));
  }
  return out;
}

ClassifierTrainer::ClassifierTrainer(Classifier classifier, DataParts parts, DataOptions data,
                                     ClassifierTrainerSettings settings)
    : classifier_(moved(std::move(classifier), settings.device)),
      parts_(fitting(std::move(parts), classifier_->options())),
      data_(std::move(data)),
      settings_(std::move(settings)),
      loader_(parts_.train, parts_, data_, settings_.batch, static_cast<int64_t>(settings_.seed)),
      optimizer_(named_parameters(*classifier_), {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8}, is_weight) {}

StepReport ClassifierTrainer::step(int64_t step, bool report) {
  const Batch batch = loader_.batch(step);
  auto generator =
      make_generator(derived_seed(derived_seed(settings_.seed, kShiftStream), static_cast<uint64_t>(step)));
  const auto pictures = to_device(shifted(batch.pictures, settings_.training.shift, generator), settings_.device);
  const auto labels = to_device(batch.labels, settings_.device);
  classifier_->train();
  at::Tensor logits;  // (B, classes)
  {
    const AutocastGuard autocast(settings_.device.type(), settings_.dtype);
    logits = classifier_->forward(pictures);
  }
  const auto loss = at::cross_entropy_loss(logits.to(at::kFloat), labels, /*weight=*/{}, at::Reduction::Mean,
                                           /*ignore_index=*/-100, settings_.training.label_smoothing);
  optimizer_.zero_grad();
  loss.backward();
  const Rates rates = rates_at(settings_.schedule, step, settings_.steps);
  StepReport numbers;
  numbers.lr = rates.lr;
  numbers.replaced = batch.replaced;
  if (report) {
    numbers.loss = loss.item<double>();
    numbers.grad_norm = optimizer_.clip_gradients(0).item<double>();
    numbers.more["train_accuracy"] = (logits.argmax(1) == labels).to(at::kDouble).mean().item<double>();
  }
  optimizer_.step(rates.lr, rates.weight_decay);
  return numbers;
}

std::map<std::string, double> ClassifierTrainer::validate(int64_t step) {
  const at::NoGradGuard no_grad;
  classifier_->eval();
  const int64_t size = parts_.val->size();
  const int64_t wanted = step >= settings_.steps ? size : std::min(size, settings_.training.quick_validation);
  const int64_t batches = (wanted + kValidationBatch - 1) / kValidationBatch;
  const int64_t per_batch = (wanted + batches - 1) / batches;
  double loss = 0, right = 0, seen = 0;
  for (int64_t i = 0; i < batches; ++i) {
    // Spread over the whole part: folders come class after class.
    const int64_t first = wanted == size ? i * per_batch : i * size / batches;
    const int64_t count = std::min(per_batch, size - first);
    if (count <= 0) break;
    const Batch batch = load_in_order(*parts_.val, parts_, data_, first, count);
    const auto labels = to_device(batch.labels, settings_.device);
    const auto logits = classifier_->forward(to_device(batch.pictures, settings_.device));
    loss += at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum).item<double>();
    right += (logits.argmax(1) == labels).sum().item<double>();
    seen += static_cast<double>(count);
  }
  return {{"accuracy", right / seen}, {"loss", loss / seen}};
}

void ClassifierTrainer::save(const CheckpointWriter& checkpoint) {
  auto& files = checkpoint.operations();
  save_classifier(checkpoint.file("model.safetensors"), classifier_, parts_.class_names, {}, files);
  write_weights(checkpoint.file("optimizer.safetensors"), {.tensors = optimizer_.state(), .metadata = {}}, files);
}

void ClassifierTrainer::load(const std::filesystem::path& checkpoint) {
  const auto model = checkpoint / "model.safetensors", optimizer = checkpoint / "optimizer.safetensors";
  const auto weights = read_weights(model);
  expect_format(weights, "nextscale.classifier", model.string());
  load_state_dict(*classifier_, weights.tensors, model.string());
  optimizer_.load_state(read_weights(optimizer).tensors, optimizer.string());
}

void ClassifierTrainer::save_snapshot(const std::filesystem::path& path) {
  save_classifier(path, classifier_, parts_.class_names);
}

std::vector<std::string> ClassifierTrainer::data_faults() const { return nextscale::data_faults(parts_); }

uint64_t ClassifierTrainer::checkpoint_bytes() const {
  uint64_t values = 0;
  for (const auto& [name, tensor] : state_dict(*classifier_)) values += static_cast<uint64_t>(tensor.numel());
  return 3 * 4 * values;  // weights and both moments
}

}  // namespace nextscale
