#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "nextscale/base/runtime.h"
#include "nextscale/cli/verbs.h"

namespace nextscale::cli {
namespace {

struct Verb {
  const char* name;
  const char* summary;
  ExitCode (*run)(const Words&);
};

constexpr std::array kVerbs{
    Verb{"train-tokenizer", "train the multi-scale tokenizer on pictures", train_tokenizer},
    Verb{"eval-tokenizer", "how near a tokenizer comes, and how its codes are used", eval_tokenizer},
    Verb{"cache-tokens", "turn a data set into token maps, once", cache_tokens},
    Verb{"train", "train the transformer on token maps", train},
    Verb{"sample", "make pictures", sample},
    Verb{"train-classifier", "train the small judge of samples", train_classifier},
    Verb{"classify", "let the judge look at pictures; distances to real ones", classify},
    Verb{"evaluate", "FID and its kin, as the field's tools compute them", evaluate},
    Verb{"encode", "turn pictures into token maps", encode},
    Verb{"decode", "turn token maps into pictures", decode},
    Verb{"convert", "weights as safetensors or as .pth of the reference", convert},
    Verb{"inspect", "what a checkpoint, cache or run holds", inspect},
};

std::string overview() {
  std::string text = "usage: nextscale VERB [OPTIONS]\n\nVAR: pictures by next-scale prediction.\n\n";
  for (const auto& verb : kVerbs) text += fmt::format("  {:<18}{}\n", verb.name, verb.summary);
  return text + "\nnextscale VERB --help lists a verb's options; nextscale --version says what this is.\n";
}

ExitCode run_verb(const Words& words) {
  if (words.empty()) throw usage({.what = "no verb given (see nextscale --help)"});
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    std::fputs(overview().c_str(), stdout);
    return ExitCode::done;
  }
  if (words[0] == "--version") {
    std::printf("%s\n", versions_text().c_str());
    return ExitCode::done;
  }
  for (const auto& verb : kVerbs) {
    if (words[0] == verb.name) return verb.run(Words(words.begin() + 1, words.end()));
  }
  throw usage({.where = "'" + words[0] + "'", .what = "is no verb (see nextscale --help)"});
}

int report(const std::string& message, ExitCode code) {
  std::string line = message.substr(0, message.find('\n'));
  std::fprintf(stderr, "nextscale: %s\n", line.c_str());
  if (std::getenv("NEXTSCALE_BACKTRACE") != nullptr) std::fprintf(stderr, "%s\n", message.c_str());
  return static_cast<int>(code);
}

}  // namespace
}  // namespace nextscale::cli

int main(int argc, char** argv) {
  using nextscale::ExitCode;
  using nextscale::cli::report;
  try {
    const auto code = nextscale::cli::run_verb({argv + 1, argv + argc});
    // Results that did not reach stdout (a full disk behind a pipe) are not done.
    if (std::fflush(stdout) != 0) return report("standard output: cannot be written", ExitCode::failure);
    return static_cast<int>(code);
  } catch (const nextscale::Error& error) {
    return report(error.what(), error.code());
  } catch (const c10::OutOfMemoryError&) {
    return report("out of device memory: lower --batch or choose --dtype bfloat16", ExitCode::failure);
  } catch (const c10::Error& error) {
    const bool traced = std::getenv("NEXTSCALE_BACKTRACE") != nullptr;
    return report(traced ? error.what() : error.what_without_backtrace(), ExitCode::failure);
  } catch (const std::bad_alloc&) {
    return report("out of memory: lower --batch", ExitCode::failure);
  } catch (const std::exception& error) {
    return report(error.what(), ExitCode::failure);
  }
}
