#include "nextscale/tests/support/corpus.h"

#include "nextscale/tests/fuzz/one_picture.h"

namespace nextscale::testing {
namespace {

// decoders may do without the last bytes of a picture, some formats without more
INSTANTIATE_TEST_SUITE_P(Readers, Corpus, ::testing::Values(Reader{"picture", one_picture, 10'000, kAnything}),
                         reader_name);

}  // namespace
}  // namespace nextscale::testing
