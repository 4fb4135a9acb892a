#include "gemm/gather_columns.h"

#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

// One thread per element; blocks: x along a row, y over rows. Reads are scattered over a row of a few kilobytes, which
// stays in cache.
template <class Element>
struct GatherColumns {
  static constexpr int max_threads = 256;
  Global<const Element> x;
  Global<const int32_t> order;
  Global<Element> out;
  int64_t x_stride, out_stride;
  int32_t rows, x_columns, out_columns;

  DEVICE void operator()() const {
    launch_next_grid();
    wait_for_previous_grid();
    const auto column = static_cast<int32_t>(block_index().x * block_size().x + thread_index().x);
    if (column >= out_columns) return;
    const bool inside = column < x_columns;
    int32_t from = column;
    if (inside && order) from = order[column];
    for (int64_t row = block_index().y; row < rows; row += grid_size().y) {
      Element value = {};
      if (inside) value = x[row * x_stride + from];
      out[row * out_stride + column] = value;
    }
  }
};

template <class Element>
void gather_columns(Stream& stream, const Matrix<const Element>& x, const int32_t* order, const Matrix<Element>& out) {
  constexpr uint32_t threads = GatherColumns<Element>::max_threads, max_rows = 65535;
  const auto columns = static_cast<uint32_t>((out.columns + threads - 1) / threads);
  const auto rows = static_cast<uint32_t>(x.rows < max_rows ? x.rows : max_rows);
  launch(stream, {.grid = {columns, rows}, .block = {threads}, .programmatic = true},
         GatherColumns<Element>{x.data, order, out.data, x.stride, out.stride, static_cast<int32_t>(x.rows),
                                static_cast<int32_t>(x.columns), static_cast<int32_t>(out.columns)});
}

template void gather_columns<half>(Stream&, const Matrix<const half>&, const int32_t*, const Matrix<half>&);
template void gather_columns<bfloat16>(Stream&, const Matrix<const bfloat16>&, const int32_t*, const Matrix<bfloat16>&);

}  // namespace billfish::BILLFISH_TARGET
