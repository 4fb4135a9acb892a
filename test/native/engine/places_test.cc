// Where a program's values lie: values that are needed at one time never share memory, and memory is used again.
#include "engine/places.h"

#include <algorithm>
#include <random>
#include <string>

#include "support/check.h"

using namespace billfish;

namespace {

Value value(int64_t width, RowKind rows = RowKind::tokens, ValueClass kind = ValueClass::activation) {
  return {width, rows, kind, no_value, 0};
}

Linear linear(ValueId x, ValueId out) { return {x, {{0, out}}}; }

// From the operator that writes a value, or the beginning, to the last one that reads it or a view of it.
struct Lifetime {
  size_t first = SIZE_MAX, last = 0;
};

std::vector<Lifetime> lifetimes_of(const Program& program) {
  std::vector<Lifetime> lifetimes(program.values.size());
  const auto touch = [&](ValueId id, size_t at) {
    const ValueId viewed = program.values[id].view_of;
    Lifetime& lifetime = lifetimes[viewed == no_value ? id : viewed];
    lifetime = {std::min(lifetime.first, at), std::max(lifetime.last, at)};
  };
  if (program.input != no_value) touch(program.input, 0);
  for (size_t i = 0; i < program.operators.size(); ++i) {
    for_each_value(program.operators[i], [&](ValueId id, bool) { touch(id, i); });
  }
  touch(program.output, program.operators.size());
  return lifetimes;
}

void check_places(const Program& program, const ValueBytes& bytes, const std::string& which) {
  const Places places = place_values(program, bytes);
  const std::vector<Lifetime> lifetimes = lifetimes_of(program);
  for (size_t a = 0; a < program.values.size(); ++a) {
    const Value& value = program.values[a];
    const Place& pa = places.of_value[a];
    if (value.view_of != no_value) {
      const Place& viewed = places.of_value[value.view_of];
      CHECK_MESSAGE(pa.offset == viewed.offset, which << ": view " << a);
      CHECK_MESSAGE(pa.stride == viewed.stride, which << ": view " << a);
      continue;
    }
    const int64_t width = value.width * bytes.of(value.kind);
    CHECK_MESSAGE(pa.offset % row_alignment == 0, which << ": value " << a);
    CHECK_MESSAGE(pa.stride == (width + row_alignment - 1) / row_alignment * row_alignment, which << ": value " << a);
    const int64_t arena = value.rows == RowKind::tokens ? places.token_bytes : places.logit_bytes;
    CHECK_MESSAGE(pa.offset >= 0, which << ": value " << a);
    CHECK_MESSAGE(pa.offset + pa.stride <= arena, which << ": value " << a);
    for (size_t b = 0; b < a; ++b) {
      if (program.values[b].view_of != no_value || program.values[b].rows != value.rows) continue;
      const Place& pb = places.of_value[b];
      const bool together = lifetimes[a].first <= lifetimes[b].last && lifetimes[b].first <= lifetimes[a].last;
      if (!together) continue;
      const bool apart = pa.offset + pa.stride <= pb.offset || pb.offset + pb.stride <= pa.offset;
      CHECK_MESSAGE(apart, which << ": values " << a << " and " << b << " share memory");
    }
  }
}

}  // namespace

TEST(places_of_values_that_are_needed_together_never_overlap) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](size_t count) { return static_cast<int64_t>(random() % count); };
    Program program;
    program.values = {value(16 + below(100))};
    program.input = 0;
    for (int i = 0; i < 30; ++i) {
      const auto x = static_cast<ValueId>(below(program.values.size()));
      const Value read = program.values[x];
      const auto next = static_cast<ValueId>(program.values.size());
      switch (below(4)) {
        case 0:
          if (read.view_of == no_value && read.width > 1) {
            program.values.push_back({read.width / 2, read.rows, read.kind, x, read.width / 3});
          }
          continue;
        case 1:
          program.operators.push_back(SiluMul{x, x});
          continue;
        default:
          program.values.push_back(value(1 + below(200), below(3) == 0 ? RowKind::logits : RowKind::tokens,
                                         below(2) == 0 ? ValueClass::activation : ValueClass::residual));
          program.operators.push_back(linear(x, next));
      }
    }
    program.output = static_cast<ValueId>(program.values.size()) - 1;
    check_places(program, {2, 4, 4}, "seed " + std::to_string(seed));
    check_places(program, {4, 4, 4}, "seed " + std::to_string(seed));
  }
}

TEST(places_of_a_chain_are_two_however_long_it_is) {
  Program program;
  program.values.assign(50, value(64));
  for (ValueId i = 0; i < 49; ++i) program.operators.push_back(linear(i, i + 1));
  program.input = 0;
  program.output = 49;
  CHECK(place_values(program, {4, 4, 4}).token_bytes == 2 * 64 * 4);
  CHECK(place_values(program, {2, 4, 4}).token_bytes == 2 * 64 * 2);
}

TEST(places_of_views_keep_their_value_alive_and_no_longer) {
  Program program;
  program.values = {value(96), value(32), value(96), value(32), value(96)};
  program.values[1].view_of = 0;
  program.values[1].view_start = 32;
  program.operators = {linear(0, 2), linear(1, 3), linear(2, 4)};
  program.input = 0;
  program.output = 4;
  const Places places = place_values(program, {});
  CHECK(places.of_value[1].offset == places.of_value[0].offset);
  CHECK(places.of_value[2].offset >= places.of_value[0].offset + places.of_value[0].stride);
  CHECK(places.of_value[4].offset == places.of_value[0].offset);
}

TEST(places_of_token_rows_and_logit_rows_have_arenas_of_their_own) {
  Program program;
  program.values = {value(64), value(64, RowKind::logits), value(100, RowKind::logits)};
  program.operators = {Gather{0, 1}, linear(1, 2)};
  program.input = 0;
  program.output = 2;
  const Places places = place_values(program, {});
  CHECK(places.token_bytes == 64 * 4);
  CHECK(places.logit_bytes == 176 * 4);
}
