#include "nextscale/sample/plan.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "nextscale/base/error.h"
#include "nextscale/base/random.h"
#include "nextscale/sample/filter_and_draw.h"

namespace nextscale {
namespace {

constexpr int64_t kMostPictures = 1'000'000;  // their names have six digits

void check_label(int64_t label, int64_t classes, const std::string& flag) {
  if (label >= -1 && label < classes) return;  // without classes -1 alone
  const std::string range =
      classes == 0 ? "-1, the model has no classes" : "-1 to " + std::to_string(classes - 1) + ", the model's classes";
  throw usage({flag, "out of range", range, std::to_string(label)});
}

/// A whole number at the front of `text`, which it is taken off.
std::optional<int64_t> take_number(std::string_view& text) {
  int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(result.ptr - text.data()));
  return value;
}

void append_part(std::vector<int64_t>& out, std::string_view part, int64_t classes) {
  const ErrorParts wrong{"--classes", "cannot be parsed", "numbers and rising ranges, e.g. 0-9,12, or all",
                         "'" + std::string(part) + "'"};
  const auto first = take_number(part);
  if (!first) throw usage(wrong);
  auto last = first;
  if (!part.empty()) {
    if (part.front() != '-' || *first < 0) throw usage(wrong);
    part.remove_prefix(1);
    last = take_number(part);
    if (!last || !part.empty() || *last < *first) throw usage(wrong);
  }
  check_label(*first, classes, "--classes");
  check_label(*last, classes, "--classes");
  for (int64_t label = *first; label <= *last; ++label) out.push_back(label);
}

}  // namespace

std::vector<int64_t> parse_classes(const std::string& text, int64_t classes) {
  std::vector<int64_t> all;
  if (text == "all") {
    if (classes == 0) return {-1};
    for (int64_t label = 0; label < classes; ++label) all.push_back(label);
    return all;
  }
  std::string_view left = text;
  for (size_t comma = left.find(','); comma != std::string_view::npos; comma = left.find(',')) {
    append_part(all, left.substr(0, comma), classes);
    left.remove_prefix(comma + 1);
  }
  append_part(all, left, classes);
  return all;
}

at::Generator SampleBatch::generator(const c10::Device& device) const {
  return device.is_cpu() && first_draws.defined() ? first_draws : make_generator(seed, device);
}

std::vector<SampleBatch> plan_batches(const ChoiceOptions& choice, int64_t classes, uint64_t seed) {
  if (!choice.labels.empty()) {
    for (const int64_t label : choice.labels) check_label(label, classes, "--labels");
    return {{choice.labels, seed}};
  }
  if (choice.classes.empty()) {
    auto generator = make_generator(seed);
    const auto drawn = draw_random_labels(choice.random_labels, classes, generator);
    const auto* first = drawn.const_data_ptr<int64_t>();
    return {{std::vector<int64_t>(first, first + drawn.numel()), seed, generator}};
  }

  const auto chosen = parse_classes(choice.classes, classes);
  if (static_cast<int64_t>(chosen.size()) > kMostPictures / choice.per_class) {
    throw usage({"--per-class", "too many pictures", "at most " + std::to_string(kMostPictures) + " in all",
                 std::to_string(choice.per_class) + " of " + std::to_string(chosen.size()) + " classes"});
  }
  std::vector<int64_t> list;
  for (const int64_t label : chosen) {
    list.insert(list.end(), static_cast<size_t>(choice.per_class), label);
  }
  std::vector<SampleBatch> batches;
  const auto batch = static_cast<size_t>(choice.batch);
  for (size_t begin = 0; begin < list.size(); begin += batch) {
    const auto end = std::min(begin + batch, list.size());
    batches.push_back({std::vector<int64_t>(list.data() + begin, list.data() + end), seed + batches.size()});
  }
  return batches;
}

std::vector<int64_t> pick_across_classes(const std::vector<SampleBatch>& plan, int64_t count) {
  std::map<int64_t, int64_t> left_of_class;
  for (const auto& batch : plan) {
    for (const int64_t label : batch.labels) left_of_class[label] = 0;
  }
  const auto classes = static_cast<int64_t>(left_of_class.size());
  for (auto& [label, left] : left_of_class) left = std::max<int64_t>(1, count / std::max<int64_t>(1, classes));
  std::vector<int64_t> picked;
  int64_t position = 0;
  for (const auto& batch : plan) {
    for (const int64_t label : batch.labels) {
      const bool wanted = static_cast<int64_t>(picked.size()) < count && left_of_class[label]-- > 0;
      if (wanted) picked.push_back(position);
      ++position;
    }
  }
  return picked;
}

}  // namespace nextscale
