// linear() against plain fp64 loops, through every instruction set that this machine has.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "support/linear_cases.h"

using namespace linear_test;

// Small integers, power-of-two scales, and one activation of 32639 in every segment that makes the step of the 16-bit
// codes one: every product and sum is exact, so every path must give the same floats as fp64.
TEST(linear_is_exact_on_integers) {
  Random random(2);
  for (const Codes& codes : all_codes) {
    for (const int64_t group : {8, 32, 96, 128, -1}) {
      for (const int64_t rows : {1, 2, 3, 4, 5, 7, 13, 140}) {
        Options options;
        options.bits = codes.bits;
        options.codes = codes.type;
        options.out = pick<int64_t>(random, {1, 16, 40, 64, 80, 130});
        options.in = group == -1 ? pick<int64_t>(random, {5, 100, 300}) : pick<int64_t>(random, {96, 200, 384});
        options.group_size = group;
        options.zero_points = random() % 2 && may_have_zero_points(codes);
        options.bias = random() % 2;
        options.powers_of_two = true;
        const Canonical canonical = random_linear(options, random);
        const Packed packed(canonical);
        Input x(rows, options.in);
        const int64_t group_size = canonical.shape.group_size;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t k = 0; k < options.in; ++k) {
            const bool first_of_segment = k % group_size % segment_inputs == 0;
            x.at(r, k) = first_of_segment ? (random() & 1 ? 32639.0f : -32639.0f) : static_cast<int>(random() % 15) - 7;
          }
        }
        const Expected expected = expect(canonical, x.rows);
        on_every_instruction_set([&] {
          for (const Precision precision : {Precision::exact, Precision::fast}) {
            Output out(rows, options.out);
            run(packed.linear, x.rows, precision, out);
            CHECK_MESSAGE(equal_values(out, expected), describe(options, rows, precision));
          }
        });
      }
    }
  }
}

TEST(linear_equals_fp64_for_quantized_shapes) {
  Random random(3);
  for (int i = 0; i < 60; ++i) {
    Options options;
    const Codes codes = all_codes[i % 4];
    options.bits = codes.bits;
    options.codes = codes.type;
    options.out = pick<int64_t>(random, {16, 24, 64, 160, 192});
    options.in = pick<int64_t>(random, {64, 96, 128, 200, 256, 384, 768, 1024});
    options.group_size = pick<int64_t>(random, {32, 64, 128, -1});
    options.zero_points = random() % 2 && may_have_zero_points(codes);
    options.bias = random() % 2;
    options.order = random() % 3 == 0;
    options.scale_type = pick(random, {DType::f16, DType::bf16, DType::f32});
    const int64_t rows = pick<int64_t>(random, {1, 2, 3, 4, 5, 8, 13, 16, 17, 64, 130});
    if (rows * options.in * options.out > 4'000'000) continue;
    const Canonical canonical = random_linear(options, random);
    const Packed packed(canonical);
    Input x(rows, options.in);
    fill_normal(x, random);
    const Expected expected = expect(canonical, x.rows);
    check_everywhere(packed, x, options, expected);
  }
}

// The down projection of a 72B model, one group of 29568 inputs: sums are cut into segments all the same.
TEST(linear_takes_channelwise_groups_of_many_inputs) {
  Random random(10);
  for (const Codes& codes : all_codes) {
    Options options;
    options.bits = codes.bits;
    options.codes = codes.type;
    options.in = 29568;
    options.group_size = -1;
    options.zero_points = may_have_zero_points(codes);
    const Canonical canonical = random_linear(options, random);
    const Packed packed(canonical);
    for (const int64_t rows : {1, 6}) {
      Input x(rows, options.in);
      fill_normal(x, random);
      const Expected expected = expect(canonical, x.rows);
      check_everywhere(packed, x, options, expected);
    }
  }
}

TEST(linear_equals_fp64_for_matrices) {
  Random random(4);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 40; ++i) {
    Options options;
    options.out = pick<int64_t>(random, {1, 3, 16, 24, 64, 100, 160});
    options.in = pick<int64_t>(random, {1, 7, 16, 40, 64, 129, 200, 384, 1024});
    const DType type = pick(random, {DType::f32, DType::f16, DType::bf16});
    const int64_t rows = pick<int64_t>(random, {1, 2, 3, 4, 5, 8, 13, 16, 17, 64, 130});
    std::vector<float> values(options.out * options.in);
    for (float& value : values) {
      value = normal(random);
      if (type == DType::f16) value = f16_to_float(float_to_f16(value));
      if (type == DType::bf16) value = bf16_to_float(float_to_bf16(value));
    }
    AlignedBytes bytes(values.size() * byte_size(type));
    convert(values, type, bytes.data());
    std::vector<float> bias(options.out, 0.25f);
    const Matrix matrix{type, options.out, options.in, bytes.data(), random() % 2 ? bias.data() : nullptr};
    Input x(rows, options.in);
    fill_normal(x, random);
    const Expected expected =
        expect(x.rows, options.out, {}, matrix.bias, [&](int64_t n, int64_t k) { return values[n * options.in + k]; });
    on_every_instruction_set([&] {
      for (const Precision precision : {Precision::exact, Precision::fast}) {
        Output out(rows, options.out);
        run(matrix, x.rows, precision, out);
        check_exact(out, expected, "matrix " + describe(options, rows, precision));
      }
    });
  }
}

// Three quantized linears (two with one act-order, one with another, groups cut differently) and a matrix on one input.
TEST(linear_runs_several_calls_on_one_input) {
  Random random(5);
  const int64_t in = 256;
  std::vector<Canonical> canonical;
  for (int i = 0; i < 3; ++i) {
    Options options;
    options.in = in;
    options.out = 48 + 40 * i;
    options.group_size = i == 1 ? 32 : 64;
    options.order = i > 0;
    options.bits = i == 2 ? 8 : 4;
    canonical.push_back(random_linear(options, random));
  }
  canonical[0].shape.has_group_index = true;
  canonical[0].shape.order = canonical[1].shape.order;
  const Packed first(canonical[0]), second(canonical[1]), third(canonical[2]);
  std::normal_distribution<float> normal;
  std::vector<float> values(70 * in);
  for (float& value : values) value = normal(random);
  AlignedBytes bytes(values.size() * sizeof(float));
  convert(values, DType::f32, bytes.data());
  const Matrix matrix{DType::f32, 70, in, bytes.data(), nullptr};
  for (const int64_t rows : {1, 3, 20, 7}) {
    Input x(rows, in);
    fill_normal(x, random);
    on_every_instruction_set([&] {
      for (const Precision precision : {Precision::exact, Precision::fast}) {
        Output outs[4] = {{rows, 48}, {rows, 88}, {rows, 128}, {rows, 70}};
        std::vector<LinearCall> calls(4);
        const QuantizedLinear* quantized[4] = {&first.linear, &second.linear, &third.linear, nullptr};
        for (int i = 0; i < 4; ++i)
          calls[i] = {i == 3 ? &matrix : nullptr, quantized[i], outs[i].values.data(), outs[i].stride};
        run(calls, x.rows, precision, pool());
        for (int i = 0; i < 4; ++i) {
          const Expected expected =
              i < 3 ? expect(canonical[i], x.rows)
                    : expect(x.rows, 70, {}, nullptr, [&](int64_t n, int64_t k) { return values[n * in + k]; });
          const std::string what = std::string("call ") + std::to_string(i) + " " + name(instruction_set());
          if (precision == Precision::exact || i == 3) {
            check_exact(outs[i], expected, what);
          } else {
            check_fast(outs[i], expected, what);
          }
        }
      }
    });
  }
}

TEST(linear_does_not_depend_on_the_number_of_threads) {
  Random random(6);
  Options options;
  options.out = 200;
  options.in = 384;
  options.group_size = 128;
  const Canonical canonical = random_linear(options, random);
  const Packed packed(canonical);
  for (const int64_t rows : {1, 3, 150}) {
    Input x(rows, options.in);
    fill_normal(x, random);
    std::vector<float> first;
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      for (const Precision precision : {Precision::exact, Precision::fast}) {
        Output out(rows, options.out);
        run({LinearCall{nullptr, &packed.linear, out.values.data(), out.stride}}, x.rows, precision, pool);
        if (precision == Precision::exact) continue;
        if (first.empty()) first = out.values;
        CHECK(out.values == first);
      }
    }
  }
}

TEST(linear_instruction_set_is_never_better_than_the_processor) {
  const InstructionSet before = instruction_set();
  for (const InstructionSet wanted : all_instruction_sets) {
    const InstructionSet used = set_instruction_set(wanted);
    CHECK(used == std::min(wanted, best_instruction_set()));
    CHECK(instruction_set() == used);
  }
  set_instruction_set(before);
}

// What is broken must not look whole: a NaN or an infinity reaches the outputs of its row, and of no other row.
TEST(linear_lets_nan_and_infinity_through) {
  Random random(8);
  for (const Codes& codes : all_codes) {
    Options options;
    options.bits = codes.bits;
    options.codes = codes.type;
    options.out = 64;
    options.in = 256;
    options.group_size = 128;
    const Canonical canonical = random_linear(options, random);
    const Packed packed(canonical);
    on_every_instruction_set([&] {
      for (const int64_t rows : {2, 3, 10}) {
        for (const float broken : {NAN, INFINITY, -INFINITY}) {
          Input x(rows, options.in);
          fill_normal(x, random);
          x.at(1, 130) = broken;
          Output out(rows, options.out);
          run(packed.linear, x.rows, Precision::fast, out);
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t n = 0; n < options.out; ++n) CHECK(std::isfinite(out.values[r * out.stride + n]) == (r != 1));
          }
        }
      }
    });
  }
}

TEST(linear_takes_zero_and_tiny_activations) {
  Random random(9);
  Options options;
  options.in = 128;
  options.bias = true;
  const Canonical canonical = random_linear(options, random);
  const Packed packed(canonical);
  on_every_instruction_set([&] {
    for (const float value : {0.0f, -0.0f, 1e-38f, 1e-45f}) {
      Input x(2, options.in);
      for (int64_t k = 0; k < options.in; ++k) x.at(0, k) = x.at(1, k) = value;
      Output out(2, options.out);
      run(packed.linear, x.rows, Precision::fast, out);
      for (int64_t n = 0; n < options.out; ++n) CHECK(out.values[n] == canonical.bias[n]);
    }
  });
}

// --- How weights are packed: what goes in comes out, in the layout that quantized_linear.h draws.

TEST(linear_packs_what_it_reads_back) {
  Random random(1);
  for (const Codes& codes : all_codes) {
    for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
      for (const int64_t in : {7, 64, 75, 264}) {
        Options options;
        options.bits = codes.bits;
        options.codes = codes.type;
        options.out = 37;
        options.in = in;
        options.group_size = in % 8 == 0 ? 32 : -1;
        options.zero_points = may_have_zero_points(codes);
        options.bias = true;
        options.scale_type = type;
        const Canonical canonical = random_linear(options, random);
        CHECK(packed_bytes(canonical.shape) % 64 == 0);
        const Packed packed(canonical);
        const QuantizedLinear& weights = packed.linear;
        const bool is_fp4 = codes.type == CodeType::e2m1;  // looked up as integers, twice the numbers
        const float unit = is_fp4 ? 0.5f : 1.0f;
        for (int64_t n = 0; n < options.out; ++n) {
          for (int64_t k = 0; k < in; ++k) {
            const uint8_t code = canonical.codes[n * in + k];
            CHECK(packed_code(weights, n, k) == (is_fp4 ? e2m1_integers[code] : code));
          }
          for (int64_t g = 0; g < canonical.shape.groups(); ++g) {
            CHECK(packed_scale(weights, n, g) == unit * canonical.scales[n * canonical.shape.groups() + g]);
            if (options.zero_points)
              CHECK(packed_zero(weights, n, g) == canonical.zeros[n * canonical.shape.groups() + g]);
          }
          CHECK(packed.linear.bias[n] == canonical.bias[n]);
        }
      }
    }
  }
}

TEST(linear_packed_layout_is_the_drawn_one) {
  CanonicalShape shape;
  shape.out = 16;
  shape.in = 8;
  shape.group_size = 8;
  AlignedBytes block(packed_bytes(shape));
  CHECK(packed_bytes(shape) == 64 + 64);  // 16 x 8 codes, 16 scales
  const QuantizedLinear linear = make_quantized_linear(shape, block.data());
  CanonicalRows rows;
  rows.count = 16;
  rows.codes.assign(16, 0);
  rows.codes[3] = 0x76543210;  // input k has code k
  rows.scales.assign(32, 0);
  pack_rows(linear, rows);
  const uint8_t expected[4] = {0x40, 0x51, 0x62, 0x73};
  CHECK(std::memcmp(block.data() + 3 * 4, expected, 4) == 0);
}

TEST(linear_packed_floats_are_as_drawn) {
  CanonicalShape shape;
  shape.bits = 8;
  shape.codes = CodeType::e4m3;
  shape.out = 16;
  shape.in = 8;
  shape.group_size = 8;
  AlignedBytes block(packed_bytes(shape));
  CHECK(packed_bytes(shape) == 128 + 64);
  const QuantizedLinear linear = make_quantized_linear(shape, block.data());
  CanonicalRows rows;
  rows.count = 16;
  rows.codes.assign(32, 0);
  rows.codes[6] = 0x33323130;  // output 3, inputs 0 to 3
  rows.scales.assign(32, 0);
  pack_rows(linear, rows);
  const uint8_t first[2] = {0x30, 0x31}, second[2] = {0x32, 0x33};
  CHECK(std::memcmp(block.data() + 3 * 2, first, 2) == 0);
  CHECK(std::memcmp(block.data() + 32 + 3 * 2, second, 2) == 0);
}

// Takes subnormal numbers for zeros on this thread, as libraries with -ffast-math make it.
static void flush_subnormals(bool flush) {
#if defined(__x86_64__)
  constexpr unsigned zeros = 1u << 6 | 1u << 15;
  _mm_setcsr(flush ? _mm_getcsr() | zeros : _mm_getcsr() & ~zeros);
#else
  (void)flush;
#endif
}

// Every code, alone and beside others, by every kernel.
TEST(linear_takes_every_float_for_what_it_is) {
  Options options;
  options.bits = 8;
  options.codes = CodeType::e4m3;
  options.out = 256;
  options.in = 8;
  options.group_size = -1;
  options.powers_of_two = true;
  Random random(12);
  Canonical canonical = random_linear(options, random);
  std::fill(canonical.codes.begin(), canonical.codes.end(), uint8_t{0});
  for (int64_t n = 0; n < 256; ++n) {
    const auto code = static_cast<uint8_t>(n);
    canonical.codes[n * 8 + n % 8] = is_e4m3_nan(code) ? 0 : code;
  }
  const Packed packed(canonical);
  for (const int64_t rows : {1, 2, 3, 4, 9}) {
    Input x(rows, 8);
    std::fill(x.values.begin(), x.values.end(), 1.0f);
    const Expected expected = expect(canonical, x.rows);
    on_every_instruction_set([&] {
      for (const Precision precision : {Precision::exact, Precision::fast}) {
        for (const bool flush : {false, true}) {
          Output out(rows, 256);
          flush_subnormals(flush);
          run(packed.linear, x.rows, precision, out);
          flush_subnormals(false);
          CHECK_MESSAGE(equal_values(out, expected), describe(options, rows, precision));
        }
      }
    });
  }
}

TEST(linear_refuses_shapes_that_no_kernel_takes) {
  CanonicalShape shape;
  shape.name = "model.layers.0.q_proj";
  shape.out = 64;
  shape.in = 64;
  shape.group_size = 20;
  CHECK_THROWS(packed_bytes(shape), "INVALID_CHECKPOINT");
  shape.group_size = 32;
  shape.bits = 3;
  CHECK_THROWS(packed_bytes(shape), "INVALID_CHECKPOINT");
  shape.bits = 4;
  shape.scale_type = DType::i32;
  CHECK_THROWS(packed_bytes(shape), "INVALID_CHECKPOINT");
  shape.scale_type = DType::f32;
  shape.codes = CodeType::e4m3;
  CHECK_THROWS(packed_bytes(shape), "INVALID_CHECKPOINT");
  shape.bits = 8;
  CHECK(packed_bytes(shape) > 0);
  shape.has_zero_points = true;
  CHECK_THROWS(packed_bytes(shape), "INVALID_CHECKPOINT");
}
