// Weights and inputs of the published sizes for bench_whole_jobs, where no checkout of the reference makes them:
//   bench_published_inputs FOLDER PICTURES [d16|d20|d24|d30]
// writes vae.pth, var.pth (state dicts that the reference loads, too; initial values) and inputs.pth.
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include <ATen/ATen.h>

#include "nextscale/base/random.h"
#include "nextscale/base/state_dict.h"
#include "nextscale/io/weights.h"
#include "nextscale/var/transformer.h"
#include "nextscale/vqvae/tokenizer.h"

namespace nextscale {
namespace {

constexpr int64_t kSide = 256;

NamedTensors detached(const torch::nn::Module& module) {
  NamedTensors out;
  for (const auto& [name, tensor] : state_dict(module)) out.emplace_back(name, tensor.detach());
  return out;
}

void write_published_inputs(const std::filesystem::path& folder, int64_t pictures, const std::string& preset) {
  std::filesystem::create_directories(folder);
  auto generator = make_generator(0);
  const at::NoGradGuard no_grad;
  Tokenizer tokenizer(tokenizer_preset("paper", kSide, 3));
  tokenizer->initialise(generator);
  find_tensor(named_parameters(*tokenizer), "quantize.embedding.weight").normal_(0, 1, generator);
  write_pth(folder / "vae.pth", detached(*tokenizer));
  const int64_t length = tokenizer->scales().length();

  Transformer transformer(transformer_preset(preset));
  transformer->initialise(generator);
  write_pth(folder / "var.pth", reference_state_dict(transformer));

  write_pth(folder / "inputs.pth",
            {{"tokens", at::randint(tokenizer->options().quantizer.codes, {pictures, length}, generator, at::kLong)},
             {"labels", at::randint(transformer->options().classes, {pictures}, generator, at::kLong)},
             {"pictures", at::rand({pictures, 3, kSide, kSide}, generator).mul_(2).sub_(1)}});
}

}  // namespace
}  // namespace nextscale

int main(int count, char** words) {
  if (count < 3 || count > 4) {
    std::fputs("bench_published_inputs FOLDER PICTURES [PRESET]\n", stderr);
    return 2;
  }
  try {
    nextscale::write_published_inputs(words[1], std::atoll(words[2]), count == 4 ? words[3] : "d16");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_published_inputs: %s\n", error.what());
    return 1;
  }
  return 0;
}
