#include <algorithm>
#include <string_view>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "nextscale/data/grid.h"
#include "nextscale/data/picture.h"
#include "nextscale/evaluate/record.h"

namespace nextscale {
namespace {

constexpr int64_t kSamples = 32, kColumns = 8, kPairs = 16;

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto left = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < left ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (size_t k = 0; k < 4; ++k) text += k <= left ? kLetters[group >> (18 - 6 * k) & 63U] : '=';
  }
  return text;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string picture_html(const std::vector<at::Tensor>& pictures, const GridOptions& options, const std::string& text) {
  if (pictures.empty()) return {};
  const auto grid = compose_grid(at::stack(pictures).permute({0, 3, 1, 2}), options);
  return fmt::format(
      "<figure><img alt=\"{0}\" "
      "src=\"data:image/png;base64,{1}\"><figcaption>{0}</"
      "figcaption></figure>\n",
      escaped(text), base64(encode_png(grid)));
}

std::string samples_html(const EvaluationRecord& record, const ReportPictures& pictures) {
  std::vector<at::Tensor> shown;
  const int64_t count = std::min(kSamples, record.generated.count);
  for (int64_t i = 0; i < count; ++i) shown.push_back(pictures.generated(i * record.generated.count / count));
  return picture_html(shown, {.columns = kColumns},
                      fmt::format("{} of {} generated pictures, evenly spread", count, record.generated.count));
}

/// Samples beside their nearest reference picture, the most suspicious first.
std::string neighbours_html(const EvaluationRecord& record, const ReportPictures& pictures) {
  if (!record.result.neighbours || !pictures.reference) return {};
  const auto& found = *record.result.neighbours;
  std::vector<at::Tensor> shown;
  std::vector<std::string> captions;
  const auto count = std::min<int64_t>(kPairs, found.suspicious.numel());
  for (int64_t i = 0; i < count; ++i) {
    const auto sample = found.suspicious[i].item<int64_t>();
    const auto nearest = found.indices[sample][0].item<int64_t>();
    const auto picture = pictures.generated(sample), real = pictures.reference(nearest);
    if (picture.sizes() != real.sizes()) return {};
    shown.push_back(picture);
    shown.push_back(real);
    captions.push_back(fmt::format("sample {}", sample));
    captions.push_back(fmt::format("real {}, d1/d2 {:.2f}", nearest, found.ratios[sample].item<double>()));
  }
  return picture_html(shown, {.columns = kColumns, .captions = captions},
                      "samples (left) beside their nearest reference picture "
                      "(right), smallest ratio of the nearest to the "
                      "second nearest distance first");
}

std::string metrics_html(const EvaluationRecord& record) {
  std::string rows;
  for (const auto& metric : record.result.metrics) {
    std::string further;
    for (const auto& [name, value] : metric.further) further += fmt::format("{} {:.6g} ", name, value);
    rows += fmt::format(
        "<tr><th>{}</th><td>{:.6g}</td><td>{}</td><td>{}</td></tr>\n", escaped(metric.title), metric.value,
        metric.interval ? fmt::format("{:.6g} to {:.6g}", metric.interval->low, metric.interval->high) : std::string(),
        escaped(further));
  }
  return "<table>\n<tr><th>metric</th><th>value</th><th>95 %</th><th>beside "
         "it</th></tr>\n" +
         rows + "</table>\n";
}

std::string list_html(const std::vector<std::string>& lines, const char* title) {
  if (lines.empty()) return {};
  std::string items;
  for (const auto& line : lines) items += "<li>" + escaped(line) + "</li>\n";
  return fmt::format("<h2>{}</h2>\n<ul>\n{}</ul>\n", title, items);
}

}  // namespace

std::string record_report(const EvaluationRecord& record, const ReportPictures& pictures) {
  auto settings = record_json(record);
  for (const char* shown_elsewhere : {"metrics", "warnings", "left_out", "sentence"}) settings.erase(shown_elsewhere);
  return "<!doctype html>\n<html lang=\"en\"><head><meta "
         "charset=\"utf-8\"><title>Evaluation</title>\n<style>\n"
         "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem "
         "auto;padding:0 1rem}\n"
         "table{border-collapse:collapse}td,th{padding:.2rem "
         ".8rem;border-bottom:1px solid #ccc;text-align:left}\n"
         "td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}"
         "img{max-width:100%}\n"
         "figure{margin:1rem "
         "0}pre{background:#f4f4f4;padding:1rem;overflow:auto}\n</style></"
         "head><body>\n"
         "<h1>Evaluation</h1>\n<p>" +
         escaped(record_sentence(record)) + "</p>\n" + metrics_html(record) +
         list_html(record.result.warnings, "Warnings") + list_html(record.result.left_out, "Left out") +
         "<h2>Pictures</h2>\n" + samples_html(record, pictures) + neighbours_html(record, pictures) +
         "<h2>How it was made</h2>\n<pre>" +
         escaped(settings.dump(2, ' ', false, nlohmann::json::error_handler_t::replace)) + "</pre>\n</body></html>\n";
}

}  // namespace nextscale
