#include "engine/program.h"

#include <algorithm>
#include <random>
#include <set>

#include "check.h"
#include "engine/error.h"

using namespace billfish;

namespace {

Value tokens(int64_t width, ValueClass kind = ValueClass::activation) {
  return {width, RowKind::tokens, kind, no_value, 0};
}

// One attention-free layer: embedding, norm, two linears, silu, add, norm, gather, head.
struct Example {
  Program program;
  std::vector<WeightShape> weights{
      {"embed", WeightKind::matrix, 100, 32},  {"norm", WeightKind::vector, 32, 1},
      {"gate", WeightKind::quantized, 48, 32}, {"up", WeightKind::quantized, 48, 32},
      {"down", WeightKind::matrix, 32, 48},    {"head", WeightKind::matrix, 100, 32},
  };
  Example() {
    program.values = {tokens(32, ValueClass::residual), tokens(32), tokens(48), tokens(48), tokens(32), tokens(32)};
    program.values.push_back({32, RowKind::logits, ValueClass::residual, no_value, 0});
    program.values.push_back({100, RowKind::logits, ValueClass::logits, no_value, 0});
    program.operators = {Embedding{0, 0},
                         Tap{0, 0},
                         RmsNorm{0, 1, 32, 1e-6f, 1},
                         Linear{1, {{2, 2}}},
                         Linear{1, {{3, 3}}},
                         SiluMul{2, 3},
                         Linear{2, {{4, 4}}},
                         Add{0, 4},
                         Tap{0, 1},
                         RmsNorm{0, 1, 32, 1e-6f, 5},
                         Gather{5, 6},
                         Linear{6, {{5, 7}}}};
    program.output = 7;
  }
};

}  // namespace

TEST(program_that_is_right_passes) {
  Example example;
  validate(example.program, example.weights);
  fuse(example.program);
  validate(example.program, example.weights);
}

TEST(program_fusion_joins_linears_on_one_input_and_an_add_with_its_norm) {
  Example example;
  fuse(example.program);
  std::vector<std::string> names;
  for (const Operator& op : example.program.operators) names.push_back(operator_name(op));
  const std::vector<std::string> expected = {"embedding", "tap",        "rmsNorm", "linear", "siluMul",
                                             "linear",    "addRmsNorm", "tap",     "gather", "linear"};
  CHECK(names == expected);
  CHECK(std::get<Linear>(example.program.operators[3]).targets.size() == 2);
}

TEST(program_mistakes_are_refused) {
  const auto refused = [](auto change) {
    Example example;
    change(example);
    CHECK_THROWS(validate(example.program, example.weights), "INTERNAL");
  };
  refused([](Example& e) { e.program.output = 99; });
  refused([](Example& e) { e.program.output = no_value; });
  refused([](Example& e) { e.program.operators.erase(e.program.operators.begin()); });  // reads before it is written
  refused([](Example& e) { e.program.operators.insert(e.program.operators.begin(), Embedding{0, 0}); });  // twice
  refused([](Example& e) { e.program.operators[0] = Embedding{2, 0}; });  // a quantised table
  refused([](Example& e) { e.program.operators[0] = Embedding{1, 0}; });  // a vector as a table
  refused([](Example& e) { e.program.operators[0] = Embedding{-1, 0}; });
  refused([](Example& e) { e.program.operators[2] = RmsNorm{0, 1, 16, 1e-6f, 1}; });
  refused([](Example& e) { e.program.operators[3] = Linear{1, {{4, 2}}}; });  // 48 inputs on a value of 32
  refused([](Example& e) { e.program.operators[3] = Linear{1, {}}; });
  refused([](Example& e) { e.program.operators[5] = SiluMul{2, 4}; });  // 4 is not written yet
  refused([](Example& e) { e.program.operators[7] = Add{0, 3}; });      // widths 32 and 48
  refused([](Example& e) { e.program.operators[10] = Gather{5, 7}; });
  refused([](Example& e) { e.program.operators[1] = Tap{0, -1}; });
  refused([](Example& e) { e.program.operators[1] = Rope{0, 4, 8, 0}; });                   // there is no rope
  refused([](Example& e) { e.program.operators[1] = Attention{0, 0, 0, 4, 0, 4, 1, 0}; });  // nor a cache layer
  refused([](Example& e) { e.program.operators[1] = LogNScale{0, 1}; });
  refused([](Example& e) { e.program.values[1].width = 0; });
  refused([](Example& e) { e.program.values[1].width = int64_t{1} << 40; });
  refused([](Example& e) {
    e.program.values.push_back({64, RowKind::tokens, ValueClass::activation, 0, 0});
  });  // too wide
  refused([](Example& e) { e.program.values.push_back({8, RowKind::tokens, ValueClass::activation, 0, 28}); });
  refused([](Example& e) { e.program.values.push_back({8, RowKind::tokens, ValueClass::activation, 50, 0}); });
  refused([](Example& e) {
    e.program.cache_layers = {{3, 8}};
    e.program.ropes = {{{1.0f, 0.5f, 0.1f, 0.01f, 0.001f}, 1}};
    e.program.operators[1] = Rope{0, 4, 8, 0};  // 5 pairs in heads of 8
  });
  refused([](Example& e) {
    e.program.cache_layers = {{3, 8}};
    e.program.values.push_back(tokens(24));
    e.program.operators[1] = Attention{0, 8, 8, 4, 0, 4, 1, 0};  // 4 heads over 3 kv heads
  });
}

// Values that live at the same time never share memory, whatever the program.
TEST(program_buffers_of_living_values_do_not_overlap) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    Program program;
    program.values.push_back(tokens(16 + random() % 100));
    program.input = 0;
    for (int i = 0; i < 30; ++i) {
      const ValueId x = static_cast<ValueId>(random() % program.values.size());
      const ValueId out = static_cast<ValueId>(program.values.size());
      program.values.push_back(tokens(1 + random() % 200));
      program.operators.push_back(Linear{x, {{0, out}}});
    }
    program.output = static_cast<ValueId>(program.values.size()) - 1;
    const BufferPlan plan = plan_buffers(program);

    std::vector<int> last(program.values.size(), -1);
    for (int i = 0; i < 30; ++i) last[std::get<Linear>(program.operators[i]).x] = i;
    last[program.output] = 30;
    const auto born = [&](ValueId id) { return id - 1; };  // value id is written by operator id - 1
    for (ValueId a = 0; a < static_cast<ValueId>(program.values.size()); ++a) {
      const auto& pa = plan.places[a];
      CHECK(pa.offset >= 0 && pa.stride >= program.values[a].width && pa.offset + pa.stride <= plan.token_elements);
      for (ValueId b = 0; b < a; ++b) {
        const auto& pb = plan.places[b];
        const bool alive_together =
            std::max(born(a), born(b)) <= std::min(std::max(last[a], born(a)), std::max(last[b], born(b)));
        const bool apart = pa.offset + pa.stride <= pb.offset || pb.offset + pb.stride <= pa.offset;
        CHECK_MESSAGE(apart || !alive_together, "round " << round << ": values " << a << " and " << b);
      }
    }
  }
}
