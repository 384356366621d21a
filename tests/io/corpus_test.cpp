#include "nextscale/tests/support/corpus.h"

#include "nextscale/tests/fuzz/one_input.h"
#include "nextscale/tests/fuzz/one_npz.h"
#include "nextscale/tests/fuzz/one_numpy_pickle.h"
#include "nextscale/tests/fuzz/one_pth.h"

namespace nextscale::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(Readers, Corpus,
                         ::testing::Values(Reader{"safetensors", one_safetensors, 40'000},
                                           Reader{"idx", one_idx, 40'000}, Reader{"tar", one_tar, 20'000, 512},
                                           Reader{"npz", one_npz, 20'000}, Reader{"pth", one_pth, 20'000},
                                           Reader{"numpy_pickle", one_numpy_pickle, 20'000}),
                         reader_name);

}  // namespace
}  // namespace nextscale::testing
