#include "nextscale/tests/support/corpus.h"

#include "nextscale/tests/fuzz/one_json.h"

namespace nextscale::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(Readers, Corpus,
                         ::testing::Values(Reader{"config", one_config, 20'000}, Reader{"state", one_state, 20'000},
                                           Reader{"metrics", one_metrics, 20'000, kAnything, 1.0},
                                           Reader{"tokens", one_tokens, 20'000}),
                         reader_name);

}  // namespace
}  // namespace nextscale::testing
