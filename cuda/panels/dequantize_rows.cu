#include "panels/linear.h"

#include "gemm/dequantize.h"
#include "gemm/layout.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "primitives/warp.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

namespace {

// A warp converts a strip's 64 outputs by 64 inputs (four k-blocks) into 128 bytes of each of 64 rows. Its lanes hold
// fragments (layout.h): lane 4 g + t has inputs 2t and 2t+1 of every eight, so the four lanes of g hold a quarter of
// each of a row's eight 16-byte chunks. They exchange until t has chunks t and t + 4 whole; the four then write 64
// contiguous bytes per store.
template <class Element, int bits, CodeKind kind>
struct DequantizeRows {
  static constexpr bool zero_points = kind == CodeKind::zero_points;
  using Codes = Dequantizer<Element, bits, is_float(kind)>;
  static constexpr int warps = 8, max_threads = 32 * warps, blocks = 4, inputs = blocks * block_inputs;
  static constexpr int scale_blocks = inputs / scale_block_inputs(kind == CodeKind::e2m1 ? 1 : 2);
  Global<const uint8_t> codes, scales, zeros;  // from the first strip on
  Global<const float> output_scales;           // likewise, or null
  Global<Element> to;
  int64_t strip_bytes, stride, rows, columns;  // columns: those that are not padding
  int32_t chunks, groups, group_shift;         // chunks of 64 inputs; scale block i is of group i >> group_shift
  DType scale_type;

  DEVICE void operator()() const {
    launch_next_grid();
    wait_for_previous_grid();  // which may still read what is written here
    const int chunk = static_cast<int>(block_index().x) * warps + static_cast<int>(warp_index());
    if (chunk >= chunks) return;
    const int64_t strip = block_index().y;
    const auto lane = static_cast<int>(lane_index());
    uint32_t words[blocks][4][bits / 4];
    load_codes(codes + (strip * strip_bytes + int64_t{chunk} * (blocks * codes_block_bytes(bits)) + lane * 16), words);
    float scale[scale_blocks][8];
    uint2 zero[scale_blocks] = {};
    UNROLL for (int scale_block = 0; scale_block < scale_blocks; ++scale_block) {
      const int group = min((scale_blocks * chunk + scale_block) >> group_shift, groups - 1);
      const int64_t entry = (strip * groups + group) * strip_outputs + lane / 4 * 8;
      load_scales(entry, scale[scale_block]);
      if constexpr (is_float(kind)) {
        UNROLL for (int i = 0; i < 8; ++i) scale[scale_block][i] *= factor(strip, lane, i);
      }
      if constexpr (zero_points) zero[scale_block] = load_readonly<uint2>(zeros + entry);
    }

    UNROLL for (int tile = 0; tile < 4; ++tile) {
      uint32_t pairs[2][2 * blocks];  // of the lower and the upper output: for every eight inputs this lane's two
      UNROLL for (int block = 0; block < blocks; ++block) {
        const int scale_block = block * scale_blocks / blocks;
        ZeroPoints center = Codes::center;
        if constexpr (zero_points)
          center = Codes::prepare(tile < 2 ? zero[scale_block].x : zero[scale_block].y, tile % 2);
        uint32_t a[4];
        Codes::template convert<zero_points>(words[block][tile], center, a);
        UNROLL for (int part = 0; part < 4; ++part) {
          pairs[part % 2][2 * block + part / 2] = scaled(a[part], scale[scale_block][2 * tile + part % 2]);
        }
      }
      UNROLL for (int upper = 0; upper < 2; ++upper) {
        write(strip * strip_outputs + 16 * tile + 8 * upper + lane / 4, chunk, pairs[upper]);
      }
    }
  }

  // What else multiplies a lane's i-th output.
  DEVICE float factor(int64_t strip, int lane, int i) const {
    float scale = 1 / Codes::unit;
    if constexpr (kind == CodeKind::e2m1) {
      scale /= unit_of_scales(scale_type);
      const int64_t row = strip * strip_outputs + i / 2 * 16 + i % 2 * 8 + lane / 4;
      if (output_scales && row < rows) scale *= load_readonly<float>(output_scales + row);
    }
    return scale;
  }

  DEVICE static void load_codes(Global<const uint8_t> from, uint32_t (&words)[blocks][4][bits / 4]) {
    UNROLL for (int block = 0; block < blocks; ++block) {
      UNROLL for (int i = 0; i < bits / 4; ++i) {
        const uint4 four = load_streaming<uint4>(from + block * codes_block_bytes(bits) + i * 512);
        if constexpr (bits == 4) {
          words[block][0][0] = four.x, words[block][1][0] = four.y;
          words[block][2][0] = four.z, words[block][3][0] = four.w;
        } else {
          words[block][2 * i][0] = four.x, words[block][2 * i][1] = four.y;
          words[block][2 * i + 1][0] = four.z, words[block][2 * i + 1][1] = four.w;
        }
      }
    }
  }

  DEVICE void load_scales(int64_t entry, float (&scale)[8]) const {
    if constexpr (kind == CodeKind::e2m1) {
      return unpack_byte_scales(load_readonly<uint2>(scales + entry), scale_type, scale);
    }
    if (scale_type == DType::f32) {
      UNROLL for (int i = 0; i < 2; ++i) {
        const float4 four = load_readonly<float4>(scales + entry * 4 + i * 16);
        scale[4 * i] = four.x, scale[4 * i + 1] = four.y, scale[4 * i + 2] = four.z, scale[4 * i + 3] = four.w;
      }
      return;
    }
    unpack_scales(load_readonly<uint4>(scales + entry * 2), scale_type, scale);
  }

  DEVICE static uint32_t scaled(uint32_t pair, float scale) {
    const float2 two = to_float2(bit_cast<Pair<Element>>(pair));
    return bit_cast<uint32_t>(pair_from_floats<Element>(two.x * scale, two.y * scale));
  }

  // `pairs`: lane t's word of each of the row's eight chunks in this warp's 64 inputs.
  DEVICE void write(int64_t row, int chunk, const uint32_t (&pairs)[2 * blocks]) const {
    const int t = static_cast<int>(lane_index()) % 4;
    UNROLL for (int side = 0; side < 2; ++side) {
      uint32_t a[4] = {pairs[4 * side], pairs[4 * side + 1], pairs[4 * side + 2], pairs[4 * side + 3]};
      exchange(a[0], a[1], t % 2 != 0, 1);
      exchange(a[2], a[3], t % 2 != 0, 1);
      exchange(a[0], a[2], t / 2 != 0, 2);
      exchange(a[1], a[3], t / 2 != 0, 2);
      const int64_t column = int64_t{chunk} * inputs + (4 * side + t) * 8;
      if (row >= rows) continue;
      if (column + 8 > columns) {
        UNROLL for (int i = 0; i < 4; ++i) {
          if (column + 2 * i >= columns) a[i] = 0;
          if (column + 2 * i + 1 >= columns) a[i] &= 0xffffu;
        }
      }
      store_as<uint4>(to + (row * stride + column), {a[0], a[1], a[2], a[3]});
    }
  }

  // Transposes a 2 x 2 block over lanes t and t ^ step: the lower lane trades its second value for the other's first.
  DEVICE static void exchange(uint32_t& first, uint32_t& second, bool is_upper, int step) {
    const uint32_t got = shuffle_xor(is_upper ? first : second, step);
    (is_upper ? first : second) = got;
  }
};

template <class Element, int bits, CodeKind kind>
void launch_rows(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, Element* to,
                 int64_t stride) {
  using Kernel = DequantizeRows<Element, bits, kind>;
  const int64_t size = packed_group_size(weight.group_size, weight.in), groups = ceil_div(weight.in, size);
  const int64_t strip = first / strip_outputs, entries = strip * groups * strip_outputs;
  const int64_t strip_bytes = round_up(weight.in, padded_inputs) / block_inputs * codes_block_bytes(bits);
  const int64_t chunks = stride / Kernel::inputs;
  const auto scale_bytes = static_cast<int>(byte_size(weight.scale_type));
  int shift = 31;
  for (int i = 0; groups > 1 && i < 31; ++i) {
    if (scale_block_inputs(scale_bytes) << i == size) shift = i;
  }
  const auto strips = static_cast<uint32_t>(ceil_div<int64_t>(count, strip_outputs));
  launch(stream,
         {.grid = {static_cast<uint32_t>(ceil_div<int64_t>(chunks, Kernel::warps)), strips},
          .block = {Kernel::max_threads},
          .programmatic = true},
         Kernel{weight.codes + strip * strip_bytes, weight.scales + entries * scale_bytes,
                weight.zeros == nullptr ? nullptr : weight.zeros + entries,
                weight.output_scales == nullptr ? nullptr : weight.output_scales + strip * strip_outputs, to,
                strip_bytes, stride, count, weight.in, static_cast<int32_t>(chunks), static_cast<int32_t>(groups),
                shift, weight.scale_type});
}

}  // namespace

template <class Element>
void dequantize_rows(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, Element* to,
                     int64_t stride) {
  visit_kind(weight, [&]<int bits, CodeKind kind>() {
    if constexpr (bits != 16) launch_rows<Element, bits, kind>(stream, weight, first, count, to, stride);
  });
}

template void dequantize_rows<half>(Stream&, const LinearWeight&, int64_t, int64_t, half*, int64_t);
template void dequantize_rows<bfloat16>(Stream&, const LinearWeight&, int64_t, int64_t, bfloat16*, int64_t);

}  // namespace billfish::BILLFISH_TARGET
