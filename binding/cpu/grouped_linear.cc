// The linears of experts: slots are sorted by expert, and an expert's rows are multiplied as those of any linear are
// (linear_part.h). Every output is computed by one thread in one order, whatever else is in the batch.
#include "cpu/grouped_linear.h"

#include <algorithm>
#include <typeinfo>

#include "cpu/linear_activation.h"
#include "cpu/linear_part.h"
#include "cpu/operators.h"

namespace billfish::cpu {
namespace {

// Slots that are sorted and prepared at a time: bounds the scratch, and is 128 rows each for 128 experts, as many as a
// GEMM unpacks weights for.
constexpr int64_t max_slots = 16384;

int64_t tokens_at_once(int64_t per_token) { return std::max<int64_t>(1, max_slots / per_token); }

// The slots of some tokens, by expert: those of expert e are slots[first[e]] to slots[first[e + 1] - 1].
struct Grouping {
  int64_t experts;
  int32_t* first;      // [experts + 1]
  int32_t* slots;      // [first[experts]], ascending within an expert
  int32_t* expert_of;  // [first[experts]], of the slot there
  int32_t* pieces;     // [experts + 1]: pieces of all targets of the experts before

  Grouping(int64_t count, int64_t max_rows, ScratchPieces& scratch)
      : experts(count),
        first(scratch.take<int32_t>(count + 1)),
        slots(scratch.take<int32_t>(max_rows)),
        expert_of(scratch.take<int32_t>(max_rows)),
        pieces(scratch.take<int32_t>(count + 1)) {}

  static size_t bytes(int64_t count, int64_t max_rows) {
    const auto piece = [](int64_t numbers) { return scratch_piece(static_cast<size_t>(numbers) * sizeof(int32_t)); };
    return 2 * piece(count + 1) + 2 * piece(max_rows);
  }

  // `routing`: of the tokens alone. A counting sort; slots at experts that are not among these are left out.
  void sort(const Tensor& routing, int64_t first_expert) {
    const int64_t per_token = routing.columns / 2;
    const auto for_each_slot = [&](auto apply) {
      for (int64_t token = 0; token < routing.rows; ++token) {
        const float* const chosen = row_of(routing, token);
        for (int64_t j = 0; j < per_token; ++j) {
          const int64_t expert = static_cast<int64_t>(chosen[j]) - first_expert;
          if (expert >= 0 && expert < experts) apply(expert, token * per_token + j);
        }
      }
    };
    std::fill_n(first, experts + 1, 0);
    for_each_slot([&](int64_t expert, int64_t) { ++first[expert + 1]; });
    for (int64_t e = 0; e < experts; ++e) first[e + 1] += first[e];
    int32_t* const next = pieces;  // not needed yet
    std::copy_n(first, experts, next);
    for_each_slot([&](int64_t expert, int64_t slot) {
      expert_of[next[expert]] = static_cast<int32_t>(expert);
      slots[next[expert]++] = static_cast<int32_t>(slot);
    });
  }

  int64_t rows(int64_t expert) const { return first[expert + 1] - first[expert]; }
  int64_t all_rows() const { return first[experts]; }
};

// A target's weight and the pieces that an expert's rows are cut into.
struct Target {
  const MatrixWeight* matrix = nullptr;
  const QuantizedWeight* quantized = nullptr;
  Tensor out;
  int64_t outputs = 0;  // of an expert

  explicit Target(const Call<LinearTarget>& target, int64_t per_token)
      : out(target.out), outputs(target.out.columns / per_token) {
    const Weight& weight = *target.weight;
    if (typeid(weight) == typeid(QuantizedWeight)) {
      quantized = &static_cast<const QuantizedWeight&>(weight);
    } else {
      matrix = &static_cast<const MatrixWeight&>(weight);
    }
  }

  int64_t experts() const {
    return (quantized != nullptr ? quantized->linear.out : matrix->matrix.out) / expert_rows(outputs);
  }
  int64_t panels() const { return divide_up(outputs, panel_outputs); }
};

void run_pieces(const Target& target, int64_t expert, const Activation& activation, int64_t rows, const SlotMap& slots,
                int64_t first, int64_t last) {
  QuantizedLinear quantized;
  Matrix matrix;
  LinearCall call;
  if (target.quantized != nullptr) {
    quantized = rows_of(target.quantized->linear, expert * expert_rows(target.outputs), target.outputs);
    call.quantized = &quantized;
  } else {
    matrix = rows_of(target.matrix->matrix, expert * expert_rows(target.outputs), target.outputs);
    call.matrix = &matrix;
  }
  call.out = row_of(target.out, 0);
  call.stride = target.out.stride;
  call.slots = slots;
  const LinearPart part = make_part(call, rows, activation);
  if (part.gemv) {
    run_gemv(part, first * panel_tiles, std::min(last * panel_tiles, divide_up(part.outputs, tile_outputs)));
  } else {
    run_gemm(part, first, last);
  }
}

// For the rows of `tokens` tokens, which have one each at most at an expert.
Activation activation_of(const Target& target, int64_t tokens, Precision precision) {
  LinearCall call;
  if (target.quantized != nullptr) {
    call.quantized = &target.quantized->linear;
  } else {
    call.matrix = &target.matrix->matrix;
  }
  return activation_for(call, tokens, precision);
}

// Zeros in the slots of experts that are not here.
void clear_others(const Tensor& routing, const Tensor& out, int64_t first_expert, int64_t experts) {
  const int64_t per_token = routing.columns / 2, outputs = out.columns / per_token;
  for (int64_t token = 0; token < routing.rows; ++token) {
    for (int64_t j = 0; j < per_token; ++j) {
      const int64_t expert = static_cast<int64_t>(row_of(routing, token)[j]) - first_expert;
      if (expert < 0 || expert >= experts) std::fill_n(row_of(out, token) + j * outputs, outputs, 0.0f);
    }
  }
}

Tensor rows_from(const Tensor& tensor, int64_t first, int64_t count) {
  Tensor some = tensor;
  some.data = row_of(tensor, first);
  some.rows = count;
  return some;
}

// One target, which is prepared for alone: targets may differ in the segments that they take x in.
void run_target(OperatorContext& context, const Target& target, const Tensor& x, const Tensor& routing,
                int64_t first_expert) {
  const int64_t per_token = routing.columns / 2, experts = target.experts();
  ScratchPieces scratch(context.scratch);
  Grouping grouping(experts, routing.rows * per_token, scratch);
  grouping.sort(routing, first_expert);
  const int64_t all_rows = grouping.all_rows();
  if (all_rows < routing.rows * per_token) clear_others(routing, target.out, first_expert, experts);

  const Activation form = activation_of(target, routing.rows, context.precision);
  const PreparedRuns prepared(form, all_rows, scratch);
  const Rows rows{
      row_of(x, 0), all_rows, form.in, x.stride, {grouping.slots, per_token, x.columns == form.in ? 0 : form.in}};
  context.pool.parallel_for(all_rows, rows_per_piece(form.in), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t expert = grouping.expert_of[r], first = grouping.first[expert];
      const int32_t* const order = form.order == nullptr ? nullptr : form.order + expert * form.in;
      prepared.prepare(rows.row(r), first, grouping.rows(expert), r - first, order);
    }
  });

  grouping.pieces[0] = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t count = grouping.rows(e);
    const int64_t blocks = count == 0 ? 0 : divide_up(count, rows_of_block(count));
    grouping.pieces[e + 1] = grouping.pieces[e] + static_cast<int32_t>(target.panels() * blocks);
  }
  context.pool.parallel_for(grouping.pieces[experts], 1, [&](int64_t begin, int64_t end) {
    int64_t expert = std::upper_bound(grouping.pieces, grouping.pieces + experts + 1, begin) - grouping.pieces - 1;
    for (; expert < experts && grouping.pieces[expert] < end; ++expert) {
      const int64_t before = grouping.pieces[expert], first = std::max(begin, before) - before;
      const int64_t last = std::min<int64_t>(end, grouping.pieces[expert + 1]) - before;
      if (first >= last) continue;
      const int64_t row = grouping.first[expert], count = grouping.rows(expert);
      run_pieces(target, expert, prepared.run(row, count), count, {grouping.slots + row, per_token, target.outputs},
                 first, last);
    }
  });
}

}  // namespace

size_t grouped_linear_scratch_bytes(const LinearCall& call, int64_t rows, int64_t per_token, int64_t experts,
                                    Precision precision) {
  const int64_t slots = std::min(rows, tokens_at_once(per_token)) * per_token;
  return Grouping::bytes(experts, slots) + activation_bytes(activation_for(call, rows, precision), slots);
}

void run(OperatorContext& context, const Call<billfish::GroupedLinear>& call) {
  const int64_t per_token = call.routing.columns / 2;
  for (int64_t first = 0; first < call.x.rows; first += tokens_at_once(per_token)) {
    const int64_t count = std::min(tokens_at_once(per_token), call.x.rows - first);
    for (const Call<LinearTarget>& one : call.targets) {
      Target target(one, per_token);
      target.out = rows_from(one.out, first, count);
      run_target(context, target, rows_from(call.x, first, count), rows_from(call.routing, first, count), call.first);
    }
  }
}

}  // namespace billfish::cpu
