// When sums over ranks are made in two shots.
#include "backend/two_shot.h"

#include <cstdlib>

#include "support/kernel_testing.h"

using namespace billfish::BILLFISH_TARGET;

// The fewest rows for which two shots pay.
static int64_t crossover(int ranks, int64_t columns) {
  const TwoShot two_shot;
  int64_t rows = 1;
  while (!two_shot.pays(ranks, rows, columns, 2)) ++rows;
  return rows;
}

TEST(cuda_two_shot_pays_sooner_for_more_ranks) {
  CHECK(crossover(2, 8192) == 384);
  CHECK(crossover(3, 8192) == 97);
  CHECK(crossover(4, 8192) == 52);
  CHECK(crossover(8, 8192) == 17);
}

TEST(cuda_two_shot_is_always_or_never_where_that_is_asked) {
  setenv("BILLFISH_CUDA_TWO_SHOT", "0", 1);
  CHECK(TwoShot().pays(2, 1, 8, 4));  // which saves nothing
  setenv("BILLFISH_CUDA_TWO_SHOT", "never", 1);
  CHECK(!TwoShot().pays(8, 1 << 20, 8192, 2));
  setenv("BILLFISH_CUDA_TWO_SHOT", "8192", 1);
  CHECK(crossover(2, 8192) == 1);
  unsetenv("BILLFISH_CUDA_TWO_SHOT");
}
