// Tensor cores and the loads that feed them. All 32 lanes call together.
//
// Fragments of m16n8k16, as PTX draws them. Lane = 4 g + t, g = 0..7, t = 0..3; each register holds two elements, the
// lower column (A), row (B) or column (C) in its low half:
//
//   A 16x16  a[0]: row g,   columns 2t, 2t+1      a[2]: row g,   columns 2t+8, 2t+9
//            a[1]: row g+8, columns 2t, 2t+1      a[3]: row g+8, columns 2t+8, 2t+9
//   B 16x8   b[0]: rows 2t, 2t+1, column g        b[1]: rows 2t+8, 2t+9, column g
//   C 16x8   c[0], c[1]: row g, columns 2t, 2t+1  c[2], c[3]: row g+8, columns 2t, 2t+1   (floats)
#pragma once
#include <cstdint>

#include "primitives/async_copy.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// c += a * b, with T = half or bfloat16 and fp32 sums.
template <class T>
DEVICE void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <>
DEVICE void mma_m16n8k16<half>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
DEVICE void mma_m16n8k16<bfloat16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Loads `count` (1, 2 or 4) 8x8 matrices of 16-bit elements. Lane i passes the address of row i % 8 of matrix i / 8 (16
// bytes, aligned; lanes from 8 * count on are ignored). Matrix m goes to registers[m]: this lane gets columns 2t and
// 2t+1 of row g. `transposed`: rows 2t and 2t+1 of column g.
template <int count, bool transposed = false>
DEVICE void ldmatrix(uint32_t (&registers)[count], Shared<const void> row) {
  static_assert(count == 1 || count == 2 || count == 4);
  const uint32_t address = shared_address(row);
  if constexpr (count == 4 && !transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
  } else if constexpr (count == 4) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
  } else if constexpr (count == 2 && !transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (!transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(registers[0]) : "r"(address) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(registers[0])
                 : "r"(address)
                 : "memory");
  }
}

}  // namespace billfish::BILLFISH_TARGET
