#include "nextscale/evaluate/protocol.h"

#include <algorithm>
#include <array>

#include "nextscale/base/error.h"

namespace nextscale {

const Protocol& protocol_of(const std::string& name) {
  static const std::array<Protocol, 4> kProtocols{{{.name = "adm",
                                                    .tool = "OpenAI's evaluator of guided diffusion",
                                                    .resize = Resize::tensorflow,
                                                    .zero = 128,
                                                    .unit = 128,
                                                    .metrics = {"fid", "sfid", "is", "pr"},
                                                    .score_parts = ScoreParts::rows_in_file_order,
                                                    .kernel_draws = KernelDraws::first_then_second},
                                                   {.name = "torch-fidelity",
                                                    .tool = "torch-fidelity 0.4.0",
                                                    .resize = Resize::tensorflow,
                                                    .zero = 128,
                                                    .unit = 128,
                                                    .metrics = {"fid", "is", "kid", "pr"},
                                                    .score_parts = ScoreParts::shuffled_splits,
                                                    .kernel_draws = KernelDraws::first_then_second},
                                                   {.name = "clean-fid",
                                                    .tool = "clean-fid 0.1.35, mode clean",
                                                    .resize = Resize::pillow,
                                                    .zero = 128,
                                                    .unit = 128,
                                                    .metrics = {"fid", "kid"},
                                                    .score_parts = ScoreParts::shuffled_splits,
                                                    .kernel_draws = KernelDraws::second_then_first},
                                                   {.name = "pytorch-fid",
                                                    .tool = "pytorch-fid 0.3.0",
                                                    .resize = Resize::half_pixel,
                                                    .zero = 127.5,
                                                    .unit = 127.5,
                                                    .metrics = {"fid"},
                                                    .score_parts = ScoreParts::shuffled_splits,
                                                    .kernel_draws = KernelDraws::first_then_second}}};
  const auto found =
      std::find_if(kProtocols.begin(), kProtocols.end(), [&](const Protocol& row) { return row.name == name; });
  if (found == kProtocols.end()) {
    throw usage({"--protocol", "is unknown", "adm, torch-fidelity, clean-fid or pytorch-fid", "'" + name + "'"});
  }
  return *found;
}

}  // namespace nextscale
