#include "engine/program.h"

#include <string>
#include <utility>

#include "engine/error.h"
#include "support/check.h"

using namespace billfish;

namespace {

Value tokens(int64_t width, ValueClass kind = ValueClass::activation) {
  return {width, RowKind::tokens, kind, no_value, 0};
}

// One attention-free layer: embedding, norm, two linears, silu, add, norm, gather, head.
struct Example {
  Program program;
  std::vector<WeightShape> weights{
      {"embed", WeightKind::matrix, 100, 32},      {"norm", WeightKind::vector, 32, 1},
      {"gate", WeightKind::quantized, 48, 32, 32}, {"up", WeightKind::quantized, 48, 32, 32},
      {"down", WeightKind::matrix, 32, 48},        {"head", WeightKind::matrix, 100, 32},
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
  refused([](Example& e) { e.program.operators[0] = Embedding{2, 0}; });  // a quantized table
  refused([](Example& e) { e.program.operators[0] = Embedding{1, 0}; });  // a vector as a table
  refused([](Example& e) { e.program.operators[0] = Embedding{-1, 0}; });
  refused([](Example& e) { e.program.operators[2] = RmsNorm{0, 1, 16, 1e-6f, 1}; });
  refused([](Example& e) { e.program.operators[2] = LayerNorm{0, 2, no_weight, 1e-6f, 1}; });  // a matrix as its weight
  refused([](Example& e) { e.program.operators[2] = LayerNorm{0, 1, no_weight, -1.0f, 1}; });
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
  refused([](Example& e) {
    e.program.values.push_back({8, RowKind::tokens, ValueClass::activation, 0, 8});
  });  // of another class than the value that it views
  refused([](Example& e) { e.weights[2].group_size = 0; });
  refused([](Example& e) { e.weights.push_back({"unused", WeightKind::matrix, 0, 32}); });
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

TEST(program_sizes_beyond_all_machines_are_refused) {
  const auto refused = [](auto change) {
    Example example;
    change(example);
    CHECK_THROWS(validate(example.program, example.weights), "UNSUPPORTED_MODEL");
  };
  refused([](Example& e) { e.program.values[1].width = int64_t{1} << 40; });
  refused([](Example& e) { e.weights.push_back({"unused", WeightKind::matrix, int64_t{1} << 40, 32}); });
  refused([](Example& e) { e.weights.push_back({"unused", WeightKind::matrix, 32, int64_t{1} << 29}); });
  refused([](Example& e) { e.program.cache_layers = {{1 << 17, 8}}; });
  refused([](Example& e) { e.program.cache_layers = {{8, 1 << 17}}; });
  refused([](Example& e) { e.program.ropes = {{std::vector<float>(5000, 1.0f), 1}}; });
}

TEST(program_checks_layer_norms) {
  const auto check = [](WeightId weight, WeightId bias) {
    Example example;
    example.weights.push_back({"bias", WeightKind::vector, 32, 1});    // weight 6
    example.weights.push_back({"narrow", WeightKind::vector, 24, 1});  // weight 7
    example.program.operators[2] = LayerNorm{0, weight, bias, 1e-6f, 1};
    validate(example.program, example.weights);
  };
  const auto complaint = [&](WeightId weight, WeightId bias) -> std::string {
    try {
      check(weight, bias);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  check(1, 6);
  check(1, no_weight);
  const auto tells = [&](WeightId weight, WeightId bias, const char* what) {
    const std::string told = complaint(weight, bias);
    CHECK_MESSAGE(told.find("operator 2 (layerNorm): ") != std::string::npos, told);
    CHECK_MESSAGE(told.find(what) != std::string::npos, "'" << told << "' lacks " << what);
  };
  tells(7, 6, "norm weight narrow has 24 values for width 32");
  tells(1, 7, "norm bias narrow has 24 values for width 32");
  tells(1, 99, "no weight 99");
  tells(no_weight, 6, "no weight -1");
  tells(1, 0, "weight embed is of the wrong kind");
}
