#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "nextscale/base/command_line.h"
#include "nextscale/base/progress.h"
#include "nextscale/base/runtime.h"
#include "nextscale/base/trace.h"
#include "nextscale/cli/loading.h"
#include "nextscale/cli/targets.h"
#include "nextscale/cli/verbs.h"
#include "nextscale/data/dataset.h"
#include "nextscale/evaluate/quality.h"
#include "nextscale/evaluate/samples.h"
#include "nextscale/io/atomic_file.h"
#include "nextscale/networks/classifier.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale::cli {
namespace {

struct ClassifyOptions {
  std::string classifier;
  std::vector<std::string> images;
  std::string json;
  std::string tokenizer;
  int64_t batch = 250;

  static constexpr auto table() {
    using O = ClassifyOptions;
    return std::tuple{
        option("classifier", &O::classifier, "the judge: a run of train-classifier, or its file"),
        option("images", &O::images,
               "folders of pictures; classes are in their names (000000_class007.png) or are those of class folders"),
        option("json", &O::json, "file for all numbers"),
        option("tokenizer", &O::tokenizer, "tokenizer to measure on held-out pictures of --reference: a run or file"),
        option("batch", &O::batch, "pictures at a time", between(1, 1 << 20)),
    };
  }
};

struct ClassifyRequest {
  ClassifyOptions classify;
  DataOptions reference;
  QualityOptions quality;
  LoadingOptions loading;
  RuntimeOptions runtime;
};

/// The options of --data, under the name that says what the pictures are for here.
std::vector<BoundOption> reference_options(DataOptions& options) {
  auto bound = bind_options(options);
  std::erase_if(bound, [](const BoundOption& o) { return o.name == "hflip" || o.name == "unconditional"; });
  for (auto& o : bound) {
    if (o.name == "data") o.name = "reference";
  }
  return bound;
}

std::vector<BoundOption> classify_runtime_options(RuntimeOptions& options) {
  auto bound = bind_options(options);
  for (auto& o : bound) {
    if (o.name == "dtype")
      o.help = "arithmetic of the networks: auto (float32, so that machines agree), float32 or bfloat16";
    if (o.name == "seed") o.help = "chooses the real pictures that stand on a side";
  }
  return bound;
}

std::vector<std::string> images_given(const CommandLine& line, const ClassifyOptions& options) {
  std::vector<std::string> images = options.images;
  images.insert(images.end(), line.positional().begin(), line.positional().end());
  return images;
}

struct ClassCount {
  int64_t pictures = 0, recognised = 0;
  double share() const { return static_cast<double>(recognised) / static_cast<double>(pictures); }
};

/// Pictures of each expected class and how many of them are recognised; pictures without one are left out.
std::vector<ClassCount> count_classes(const Judged& judged, int64_t classes) {
  std::vector<ClassCount> counts(static_cast<size_t>(classes));
  const auto labels = judged.labels.accessor<int64_t, 1>(), predicted = judged.predicted.accessor<int64_t, 1>();
  for (int64_t i = 0; i < labels.size(0); ++i) {
    if (labels[i] < 0) continue;
    auto& count = counts[static_cast<size_t>(labels[i])];
    ++count.pictures;
    count.recognised += labels[i] == predicted[i] ? 1 : 0;
  }
  return counts;
}

ClassCount total_of(const std::vector<ClassCount>& counts) {
  ClassCount total;
  for (const auto& count : counts) {
    total.pictures += count.pictures;
    total.recognised += count.recognised;
  }
  return total;
}

std::string class_text(size_t index, const std::vector<std::string>& names) {
  return index < names.size() && names[index] != std::to_string(index) ? fmt::format("{} {}", index, names[index])
                                                                       : std::to_string(index);
}

void print_classes(const std::vector<ClassCount>& counts, const std::vector<std::string>& names) {
  size_t width = 5;
  for (size_t i = 0; i < counts.size(); ++i) width = std::max(width, class_text(i, names).size());
  fmt::print("{:<{}}  pictures  recognised\n", "class", width);
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i].pictures == 0) continue;
    fmt::print("{:<{}}  {:>8}  {:>8.1f} %\n", class_text(i, names), width, counts[i].pictures, 100 * counts[i].share());
  }
}

/// What the pictures were taken for, where nobody says what they should be.
void print_predicted(const Judged& judged, int64_t classes, const std::vector<std::string>& names) {
  const auto found = at::bincount(judged.predicted, {}, classes);
  fmt::print("taken for class: pictures\n");
  for (int64_t i = 0; i < classes; ++i) {
    const int64_t pictures = found[i].item<int64_t>();
    if (pictures > 0) fmt::print("{}: {}\n", class_text(static_cast<size_t>(i), names), pictures);
  }
}

void print_quality(const Quality& quality) {
  // ASCII on a terminal that cannot do more; files get UTF-8.
  const bool plain = isatty(fileno(stdout)) != 0 && !is_utf8_terminal(stdout);
  fmt::print("classifier's own accuracy on {} held-out real pictures: {:.2f} %\n", quality.held_out_count,
             100 * quality.accuracy);
  if (quality.tokenizer) {
    fmt::print("tokenizer on {} held-out real pictures: PSNR {:.2f} dB, {} of {} codes used\n",
               quality.tokenizer->pictures, quality.tokenizer->psnr, quality.tokenizer->codes_used,
               quality.tokenizer->codes);
  }
  fmt::print("{} distance of the classifier's features (not FID), from {} real training pictures\n",
             plain ? "Frechet" : "Fréchet", quality.real_count);
  const auto row = [](int64_t count, const char* what, double value) {
    fmt::print("  to {:>6} {:<38}{:>8.3f}\n", count, what, std::max(value, 0.0));
  };
  row(quality.real_count, "other real training pictures", quality.real);
  if (quality.reconstructed)
    row(quality.reconstructed_count, "reconstructed held-out pictures", *quality.reconstructed);
  row(quality.sampled_count, "samples", quality.sampled);
  if (const auto ratio = quality.ratio()) fmt::print("  sampled / reconstructed {:>32.3f}\n", *ratio);
  fmt::print("samples that sit on a training picture: {:.2f} % (of held-out real pictures: {:.2f} %)\n",
             100 * quality.memorisation.share, 100 * quality.memorisation.held_out_share);
}

nlohmann::json quality_json(const Quality& quality) {
  nlohmann::json frechet = {{"features", "classifier"},
                            {"real", quality.real},
                            {"sampled", quality.sampled},
                            {"real_count", quality.real_count},
                            {"sampled_count", quality.sampled_count},
                            {"rank_deficient", quality.deficient}};
  nlohmann::json json = {{"accuracy", quality.accuracy},
                         {"held_out_count", quality.held_out_count},
                         {"memorised_share", quality.memorisation.share},
                         {"memorised_share_held_out", quality.memorisation.held_out_share},
                         {"nearest_median", quality.memorisation.sample_median},
                         {"nearest_median_held_out", quality.memorisation.held_out_median}};
  if (quality.reconstructed) {
    frechet["reconstructed"] = *quality.reconstructed;
    frechet["reconstructed_count"] = quality.reconstructed_count;
    frechet["ratio"] = *quality.ratio();
    json["psnr"] = quality.tokenizer->psnr;
    json["codes_used"] = quality.tokenizer->codes_used;
    json["codes"] = quality.tokenizer->codes;
    json["reconstructed_count"] = quality.tokenizer->pictures;
  }
  json["frechet"] = frechet;
  return json;
}

nlohmann::json classes_json(const std::vector<ClassCount>& counts, const std::vector<std::string>& names) {
  nlohmann::json list = nlohmann::json::array();
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i].pictures == 0) continue;
    list.push_back({{"class", i},
                    {"name", i < names.size() ? names[i] : std::to_string(i)},
                    {"pictures", counts[i].pictures},
                    {"recognised", counts[i].share()}});
  }
  return list;
}

}  // namespace

ExitCode classify(const Words& words) {
  ClassifyRequest options;
  CommandLine line(
      "nextscale classify --classifier RUN|FILE --images DIR... [OPTIONS]",
      "Lets the small judge look at pictures: which share does it recognise as the class that was asked for? "
      "With --reference it also compares them with real pictures.");
  line.add("Pictures and judge", bind_options(options.classify));
  line.add("Comparison with real pictures", reference_options(options.reference));
  line.add("Size of the comparison", bind_options(options.quality));
  add_loading(line, options.loading, Loads::tokenizer);
  line.add("Machine", classify_runtime_options(options.runtime));
  line.allow_positional("DIR", "further folders of --images");
  if (!line.parse(words)) {
    std::fputs(line.help().c_str(), stdout);
    return ExitCode::done;
  }
  line.require("classifier");
  line.require("images");
  if (line.given("tokenizer") && !line.given("reference")) {
    throw usage(
        {.where = "--tokenizer", .what = "needs --reference, the real pictures it is measured on (see --help)"});
  }
  line.apply();

  const bool quiet = options.runtime.quiet;
  set_threads(options.runtime.threads);
  const Trace trace(options.runtime.trace);
  JudgeSettings settings{.device = resolve_device(options.runtime.device), .batch = options.classify.batch};
  if (options.runtime.dtype != "auto") settings.dtype = resolve_dtype(options.runtime.dtype, settings.device);

  auto classifier = load_classifier(options.classify.classifier);
  const auto names = load_class_names(options.classify.classifier);
  const int64_t classes = classifier->options().classes;
  classifier->to(settings.device);
  std::vector<Sample> samples;
  for (const auto& folder : images_given(line, options.classify)) {
    const auto found = find_samples(folder, classes, names);
    samples.insert(samples.end(), found.begin(), found.end());
  }
  // Opened before anything long, so that a wrong path is told at once.
  std::optional<DataParts> parts;
  Tokenizer tokenizer(nullptr);
  if (line.given("reference")) parts = open_data(options.reference);
  if (line.given("tokenizer")) {
    tokenizer = load_tokenizer(options.classify.tokenizer, /*raw=*/false, tokenizer_hints(line, options.loading));
  }
  prepare_target(options.classify.json);

  Progress progress("samples", static_cast<int64_t>(samples.size()), "pictures", quiet);
  const auto judged = judge_samples(classifier, samples, settings, [&](int64_t done) { progress.update(done); });
  progress.finish();
  const auto counts = count_classes(judged, classes);
  const auto total = total_of(counts);
  nlohmann::json json = {{"pictures", samples.size()}, {"per_class", classes_json(counts, names)}};
  std::optional<Quality> quality;
  if (parts) {
    quality = measure_quality(classifier, tokenizer, judged, *parts, options.reference, options.quality, settings,
                              static_cast<uint64_t>(options.runtime.seed), quiet);
    json.update(quality_json(*quality));
  }
  if (total.pictures > 0) json["recognised"] = total.share();

  if (!options.classify.json.empty()) write_text_atomically(options.classify.json, json.dump(2) + "\n");
  if (total.pictures > 0) {
    print_classes(counts, names);
  } else {
    print_predicted(judged, classes, names);
  }
  if (quality) print_quality(*quality);
  if (total.pictures > 0) fmt::print("samples recognised: {:.1f} %\n", 100 * total.share());
  return ExitCode::done;
}

}  // namespace nextscale::cli
