// NaN and infinity: seen wherever they stand, and found where they come in first.
#include "engine/non_finite.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/check.h"
#include "support/tiny_model.h"

using namespace billfish;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::shared_ptr<Step> run(TinyModel& model, std::vector<int32_t> tokens, bool search) {
  const auto step = model.step(std::move(tokens), 0, 0, 2);
  step->search = search;
  return model.submit(step).get();
}

}  // namespace

TEST(all_finite_finds_a_non_finite_value_anywhere) {
  std::vector<float> values(41, 3.4e38f);
  values[7] = -3.4e38f, values[8] = -0.0f, values[9] = 1e-45f;
  CHECK(all_finite(values.data(), values.size()));
  CHECK(all_finite(values.data(), 0));
  for (const float wrong : {std::nanf(""), infinity, -infinity}) {
    for (float& value : values) {
      const float before = std::exchange(value, wrong);
      CHECK(!all_finite(values.data(), values.size()));
      value = before;
    }
  }
}

TEST(find_non_finite_looks_at_rows_and_not_between_them) {
  std::vector<float> floats(4 * 5, 1.0f);
  for (size_t row = 0; row < 4; ++row) floats[row * 5 + 4] = std::nanf("");
  CHECK(!find_non_finite(floats.data(), DType::f32, 4, 4, 5));
  floats[2 * 5 + 3] = -infinity, floats[3 * 5] = infinity;
  const auto found = find_non_finite(floats.data(), DType::f32, 4, 4, 5);
  REQUIRE(found);
  CHECK(found->row == 2);
  CHECK(found->column == 3);
  CHECK(found->value == -infinity);
  const std::vector<uint16_t> halves = {0x7bff, 0x7c00, 0x7f7f, 0x7f80};
  CHECK(find_non_finite(halves.data(), DType::f16, 1, 4, 4)->column == 1);
  CHECK(find_non_finite(halves.data(), DType::bf16, 1, 4, 4)->column == 3);
}

// What a step that does not search notes, one that searches names; and neither minds tokens that are sound.
TEST(non_finite_logits_are_noted_and_searched_for) {
  TinyModel model;
  auto& backend = model.pipeline->stages()[0]->backend();
  std::vector<float> table(static_cast<size_t>(vocabulary * hidden), 0.5f);
  table[static_cast<size_t>(3 * hidden + 6)] = infinity;  // token 3
  auto embed = backend.make_matrix(vocabulary, hidden, DType::f32, {});
  backend.fill_matrix(*embed, 0, vocabulary, table.data());
  model.pipeline->stages()[0]->set_weight(0, std::move(embed));

  for (const bool search : {false, true}) {
    const auto sound = run(model, {1, 2, 4}, search);
    CHECK(!sound->error);
    CHECK(sound->result.non_finite_rows.empty());
  }
  const auto noted = run(model, {1, 3, 4}, false);
  CHECK(!noted->error);
  CHECK(noted->result.non_finite_rows == std::vector<int32_t>{0});
  const auto searched = run(model, {1, 3, 4}, true);
  REQUIRE(searched->error);
  CHECK(searched->error->code() == "NON_FINITE");
  const std::string message = searched->error->what();
  CHECK(message.find("The output of embed is infinity at position 1, channel 6") == 0);
  CHECK(!run(model, {1, 2, 4}, false)->error);  // its hidden states are handed over as ever
}
