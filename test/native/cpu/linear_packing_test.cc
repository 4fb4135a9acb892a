// How weights of the CPU linears are packed: what goes in comes out, in the layout that quantized_linear.h draws.
#include "support/linear_cases.h"

using namespace linear_test;

TEST(linear_packs_what_it_reads_back) {
  Random random(1);
  for (const int bits : {4, 8}) {
    for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
      for (const int64_t in : {7, 64, 75, 264}) {
        Options options;
        options.bits = bits;
        options.out = 37;
        options.in = in;
        options.group_size = in % 8 == 0 ? 32 : -1;
        options.zero_points = options.bias = true;
        options.scale_type = type;
        const Canonical canonical = random_linear(options, random);
        CHECK(packed_bytes(canonical.shape) % 64 == 0);
        const Packed packed(canonical);
        const QuantizedLinear& weights = packed.linear;
        for (int64_t n = 0; n < options.out; ++n) {
          for (int64_t k = 0; k < in; ++k) CHECK(packed_code(weights, n, k) == canonical.codes[n * in + k]);
          for (int64_t g = 0; g < canonical.shape.groups(); ++g) {
            CHECK(packed_scale(weights, n, g) == canonical.scales[n * canonical.shape.groups() + g]);
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
}
