#include "nextscale/cli/scoring.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <unistd.h>

#include "nextscale/base/error.h"
#include "nextscale/base/progress.h"
#include "nextscale/cli/scoring_networks.h"
#include "nextscale/cli/targets.h"
#include "nextscale/cli/training_verb.h"
#include "nextscale/data/class_index.h"
#include "nextscale/data/picture.h"
#include "nextscale/io/atomic_file.h"
#include "nextscale/io/checkpoint.h"

namespace nextscale::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostKept = int64_t{1} << 30;         // bytes of pictures for a report
constexpr uint64_t kWorthSaying = uint64_t{256} << 20;  // bytes of features

bool is_npz(const fs::path& path) { return path.extension() == ".npz"; }

SetRecord set_record(const std::string& path, const FeatureSet& set) {
  return {.path = path, .count = set.count(), .height = set.height, .width = set.width, .hash = set.hash};
}

}  // namespace

Scoring::Scoring(const ScoringOptions& options, const MetricOptions& metrics, std::string reference,
                 const RuntimeOptions& runtime, c10::Device device)
    : options_(options),
      metric_options_(metrics),
      reference_path_(std::move(reference)),
      runtime_(runtime),
      protocol_(protocol_of(options.protocol)),
      device_(device),
      metrics_(wanted_metrics(metrics, protocol_)) {
  weights_path_ = find_weights(options);
  for (const auto& file : {options.json, options.report, options.save_statistics}) prepare_target(file);
  if (!reference_path_.empty()) open_reference();
  if (!options.held_out.empty()) held_out_pictures_ = open_picture_set(options.held_out, options.crop());
  network_ = open_network(options, weights_path_, protocol_, device);
  if (!options.classifier.empty()) judge_ = open_classifier(options.classifier, device);
  choose_metrics();
}

Scoring::~Scoring() = default;

void Scoring::open_reference() {
  const fs::path path(reference_path_);
  if (!fs::is_directory(path) && is_npz(path)) {
    auto npz = std::make_shared<NpzFile>(path);
    if (holds_statistics(*npz)) reference_.statistics = read_statistics(*npz, reference_path_);
    if (!reference_.statistics || npz->has("arr_0")) {
      reference_pictures_ = pictures_of_npz(std::move(npz), reference_path_, options_.crop());
    }
    return;
  }
  reference_pictures_ = open_picture_set(path, options_.crop());
}

bool Scoring::knows_imagenet() const {
  return options_.features == "efficientnet-lite0" && !options_.class_index.empty();
}

void Scoring::choose_metrics() {
  const bool all = metric_options_.metrics == std::vector<std::string>{"all"};
  std::vector<std::string> kept;
  for (const auto& name : metrics_) {
    std::string why;
    const bool alone = name == "is" || name == "accuracy";
    const bool moments = name == "fid" || name == "sfid";
    if (name == "accuracy" && judge_ == nullptr && !knows_imagenet()) {
      why = "needs --classifier, or --features efficientnet-lite0 with --class-index";
    }
    if (!alone && reference_path_.empty()) why = "needs --reference";
    if (!alone && !moments && !reference_path_.empty() && !reference_pictures_) {
      why = reference_path_ + " holds statistics only, and this needs pictures";
    }
    if (name == "sfid" && !network_->has_spatial()) why = "is defined for --features inception";
    if (name == "is" && !network_->has_scores()) why = "is defined for --features inception";
    if (name == "sfid" && why.empty() && reference_.statistics && !reference_.statistics->spatial) {
      why = reference_path_ + " holds no mu_s and sigma_s";
    }
    if (why.empty()) {
      kept.push_back(name);
    } else if (all) {
      if (name != "accuracy") left_out_.push_back(name + ": " + why);
    } else {
      throw failure({"--metrics " + name, why, {}, {}});
    }
  }
  if (reference_.statistics && reference_.statistics->features.width() != network_->width()) {
    throw failure({reference_path_, "holds statistics of other features",
                   std::to_string(network_->width()) + " features",
                   std::to_string(reference_.statistics->features.width())});
  }
  metrics_ = std::move(kept);
  if (metrics_.empty() && options_.save_statistics.empty()) {
    throw usage(
        {.where = "--metrics", .what = "leaves nothing to compute: " + fmt::format("{}", fmt::join(left_out_, "; "))});
  }
}

std::optional<FeatureSet> Scoring::read(const std::string& what, const Dataset& pictures, FeatureNetwork& network,
                                        const Wanted& wanted, const StopOnSignal& stop) const {
  const auto bytes = kept_bytes(wanted, pictures.size(), network);
  if (bytes >= kWorthSaying) {
    note(runtime_,
         fmt::format("{}: features of {} pictures stay in memory: {}", what, pictures.size(), bytes_text(bytes)));
  }
  Progress progress(what, pictures.size(), "pictures", runtime_.quiet);
  auto set = extract(pictures, network, wanted, {.batch = options_.scoring_batch, .workers = options_.workers},
                     [&](int64_t done) {
                       progress.update(done);
                       return !stop.requested();
                     });
  if (set) apply_class_index(pictures, *set);
  return set;
}

/// Labels of class folders by the file's numbers instead of the folders' order.
void Scoring::apply_class_index(const Dataset& pictures, FeatureSet& set) const {
  if (options_.class_index.empty()) return;
  const auto index = read_class_index(options_.class_index);
  for (int64_t i = 0; i < pictures.size(); ++i) {
    const auto folder = fs::path(pictures.name(i)).parent_path().filename().string();
    const auto found = index.folders.find(folder);
    if (found == index.folders.end()) {
      throw failure({pictures.name(i), "its folder is no class of " + options_.class_index, {}, folder});
    }
    set.labels[static_cast<size_t>(i)] = found->second;
  }
}

bool Scoring::read_reference(const StopOnSignal& stop) {
  const bool inception = network_->has_spatial();
  auto wanted = wanted_of(metrics_, inception);
  wanted.scores = false;
  wanted.spatial |= inception && !options_.save_statistics.empty();
  const bool moments_needed = !reference_.statistics || !options_.save_statistics.empty();
  if (reference_pictures_ && (moments_needed || wanted.rows)) {
    reference_.pictures = read("reference", *reference_pictures_, *network_, wanted, stop);
    if (!reference_.pictures) return false;
  }
  const bool neighbours = std::find(metrics_.begin(), metrics_.end(), "memorisation") != metrics_.end();
  if (held_out_pictures_ && neighbours) {
    held_out_ = read("held out", *held_out_pictures_, *network_, {.rows = true}, stop);
    if (!held_out_) return false;
  }
  return true;
}

bool Scoring::read_generated(const Dataset& pictures, const StopOnSignal& stop) {
  auto wanted = wanted_of(metrics_, network_->has_spatial());
  wanted.spatial |= network_->has_spatial() && reference_path_.empty() && !options_.save_statistics.empty();
  generated_ = read("generated", pictures, *network_, wanted, stop);
  if (!generated_) return false;
  if (judge_ == nullptr) return true;
  classified_ = read("classes", pictures, *judge_, {}, stop);
  return classified_.has_value();
}

void Scoring::begin_generated(int64_t expected, int64_t side) {
  if (!options_.report.empty() && expected * side * side * 3 > kMostKept) {
    throw usage({.where = "--report",
                 .what = "would keep more than 1 GiB of pictures in memory: "
                         "write them to a folder and evaluate that"});
  }
  collector_ = std::make_unique<FeatureCollector>(*network_, wanted_of(metrics_, network_->has_spatial()), expected);
  if (judge_ != nullptr) judge_collector_ = std::make_unique<FeatureCollector>(*judge_, Wanted{}, expected);
}

void Scoring::add_generated(const at::Tensor& pictures, const std::vector<int64_t>& labels) {
  const auto colour = pictures.size(3) == 3 ? pictures : pictures.expand({-1, -1, -1, 3}).contiguous();
  if (!options_.report.empty()) kept_.push_back(colour);
  int64_t first = 0;
  for (const auto& some : colour.split(options_.scoring_batch)) {
    const std::vector<int64_t> own(labels.begin() + first, labels.begin() + first + some.size(0));
    collector_->add(some, own);
    if (judge_collector_ != nullptr) judge_collector_->add(some, own);
    first += some.size(0);
  }
}

void Scoring::end_generated(const std::vector<int64_t>& order) {
  kept_order_ = order;
  generated_ = collector_->finish();
  if (judge_collector_ != nullptr) classified_ = judge_collector_->finish();
  collector_.reset();
  judge_collector_.reset();
  if (order.empty()) return;
  const auto positions = at::tensor(order, at::kLong);
  for (auto* rows : {&generated_->rows, &generated_->spatial_rows, &generated_->logits, &generated_->predicted}) {
    if (rows->defined()) *rows = rows->index_select(0, positions);
  }
  std::vector<int64_t> labels;
  for (const int64_t i : order) labels.push_back(generated_->labels.at(static_cast<size_t>(i)));
  generated_->labels = labels;
}

EvaluationRecord Scoring::record_of(const GeneratedPictures& generated, Evaluation result) const {
  EvaluationRecord record{.result = std::move(result),
                          .protocol = protocol_,
                          .features = network_->name(),
                          .weights_path = weights_path_,
                          .weights_hash = file_hash(resolve_weights_path(weights_path_)),
                          .generated = set_record(generated.path, *generated_),
                          .reference = {.path = reference_path_, .hash = {}},
                          .held_out = {},
                          .settings = options_to_json(metric_options_),
                          .sampling = generated.sampling,
                          .comparison = generated.comparison};
  record.result.left_out.insert(record.result.left_out.begin(), left_out_.begin(), left_out_.end());
  if (reference_.pictures) record.reference = set_record(reference_path_, *reference_.pictures);
  if (reference_.statistics) {
    record.reference.statistics = true;
    record.reference.statistics_count = reference_.statistics->count;
    if (record.reference.hash.empty()) record.reference.hash = file_hash(reference_path_);
  }
  if (held_out_) record.held_out = set_record(options_.held_out, *held_out_);
  record.settings["seed"] = runtime_.seed;
  record.settings["side"] = options_.side;
  record.settings["mid_reso"] = options_.mid_reso;
  if (options_.side > 0 && record.comparison.empty()) {
    record.comparison = fmt::format(
        "pictures of another size were resized (shorter side {}) and "
        "center-cropped to {} "
        "on both sides",
        static_cast<int64_t>(options_.mid_reso * static_cast<double>(options_.side) + 0.5), options_.side);
  }
  return record;
}

void Scoring::save_statistics() const {
  if (options_.save_statistics.empty()) return;
  const auto& set = reference_.pictures ? *reference_.pictures : *generated_;
  const nlohmann::json made_with = {
      {"protocol", protocol_.name}, {"features", network_->name()}, {"hash", set.hash}, {"versions", versions_text()}};
  write_statistics(options_.save_statistics, set.features, set.spatial.count() > 0 ? &set.spatial : nullptr,
                   made_with.dump());
}

void Scoring::finish(const GeneratedPictures& generated, const StopOnSignal& stop) {
  if (metrics_.empty()) return save_statistics();
  Progress progress("metrics", static_cast<int64_t>(metrics_.size()), "metrics", runtime_.quiet);
  int64_t steps = 0;
  const EvaluationInput input{.generated = *generated_,
                              .reference = reference_,
                              .held_out = held_out_ ? &*held_out_ : nullptr,
                              .classified = classified_        ? &*classified_
                                            : knows_imagenet() ? &*generated_
                                                               : nullptr,
                              .distance = network_->distance(),
                              .inception = network_->has_spatial(),
                              .device = device_};
  std::string latest;
  auto result = evaluate_sets(input, metrics_, metric_options_, protocol_, static_cast<uint64_t>(runtime_.seed),
                              [&](const std::string& metric, const std::string& detail) {
                                if (stop.requested()) {
                                  throw Error(stop.exit_code(), {.what = "stopped; nothing was written"});
                                }
                                steps += metric == latest ? 0 : 1;
                                latest = metric;
                                progress.update(steps - 1, metric + detail);
                              });
  progress.finish();
  const auto record = record_of(generated, std::move(result));
  if (!options_.json.empty()) {
    write_text_atomically(options_.json,
                          record_json(record).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  if (!options_.report.empty()) {
    const auto reference = reference_pictures_;
    const auto from_memory = [&](int64_t i) {
      if (kept_.size() > 1) kept_ = {at::cat(kept_)};
      return kept_.at(0)[kept_order_.empty() ? i : kept_order_.at(static_cast<size_t>(i))];
    };
    write_text_atomically(
        options_.report,
        record_report(record, {.generated = generated.picture ? generated.picture : from_memory,
                               .reference = reference ? std::function<at::Tensor(int64_t)>(
                                                            [&](int64_t i) { return reference->picture(i); })
                                                      : nullptr}));
  }
  save_statistics();
  const bool ascii = isatty(fileno(stdout)) != 0 && !is_utf8_terminal(stdout);
  fmt::print("{}", record_table(record, ascii));
}

}  // namespace nextscale::cli
