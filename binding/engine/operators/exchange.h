// What the stage does by itself (stage.cc): no backend runs these as operators. See operators.h.
#pragma once
#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"

namespace billfish::operators {

// Hands a copy of x to the step's result as hidden state `index`, if the step asked for hidden states. Logit rows go to
// the places of their tokens.
template <class Form>
struct Tap {
  static constexpr const char* name = "tap";
  typename Form::Value x;
  int32_t index;

  static constexpr auto fields() {
    using Self = Tap;
    return std::tuple{read("x", &Self::x), attribute("index", &Self::index)};
  }
  void check(const OperatorCheck& check) const {
    if (index < 0 || index >= 65536) check.fail("index is ", index);
  }
};

// out = the sum of x over the ranks of the stage. Ranks meet here: Backend::all_reduce() sees the values of all.
template <class Form>
struct AllReduce {
  static constexpr const char* name = "allReduce";
  typename Form::Value x, out;

  static constexpr auto fields() {
    using Self = AllReduce;
    return std::tuple{consume("x", &Self::x), write("out", &Self::out)};
  }
  void check(const OperatorCheck& check) const {
    check.same_shape(x, out);
    if (check.value(x).view_of != no_value) check.fail("a view is summed over the ranks");
  }
};

// Columns [from, from + count) of a rank's value, which become those from `to` on.
struct GatheredPiece {
  int32_t rank;
  int64_t from, to, count;

  static constexpr auto fields() {
    using Self = GatheredPiece;
    return std::tuple{attribute("rank", &Self::rank), attribute("from", &Self::from), attribute("to", &Self::to),
                      attribute("count", &Self::count)};
  }
};

// out = pieces of all ranks' x beside each other. A rank without out only gives. Ranks meet here, too.
template <class Form>
struct AllGather {
  static constexpr const char* name = "allGather";
  typename Form::Value x, out;
  typename Form::template List<GatheredPiece> pieces;

  static constexpr auto fields() {
    using Self = AllGather;
    return std::tuple{read("x", &Self::x), optional_write("out", &Self::out), list("pieces", &Self::pieces)};
  }
  // The pieces cover out once. That they lie in the other ranks' values, validate_ranks() checks.
  void check(const OperatorCheck& check) const {
    if (!is_given(out)) return;
    if (check.value(x).rows != check.value(out).rows) check.fail("the rows of x and out are not the same");
    constexpr int64_t widest = int64_t{1} << 28;
    const int64_t width = check.value(out).width;
    std::vector<std::pair<int64_t, int64_t>> covered;
    for (const GatheredPiece& piece : pieces) {
      const bool inside = piece.to >= 0 && piece.count > 0 && piece.count <= width && piece.to <= width - piece.count;
      if (piece.rank < 0 || piece.from < 0 || piece.from > widest || !inside) {
        check.fail("a piece of ", piece.count, " columns from ", piece.from, " of rank ", piece.rank, " to ", piece.to,
                   " does not fit width ", width);
      }
      covered.emplace_back(piece.to, piece.to + piece.count);
    }
    std::sort(covered.begin(), covered.end());
    int64_t end = 0;
    for (const auto& [from, until] : covered) {
      if (from != end) check.fail("the pieces do not cover out once: column ", std::min(from, end));
      end = until;
    }
    if (end != width) check.fail("the pieces cover ", end, " of ", width, " columns");
  }
};

// What sends and receives have in common: the columns of `value` lie from column `at` on in the buffer of link `link`.
inline void check_link(const OperatorCheck& check, ValueId value, int32_t link, int64_t at) {
  constexpr int64_t widest = int64_t{1} << 28;
  const auto& matrix = check.value(value);
  if (link < 0 || link >= 4096 || at < 0 || at > widest - matrix.width) {
    check.fail(matrix.width, " columns from ", at, " of link ", link);
  }
}

// Hands a copy of x to the other end of a link (link.h): a stage to one of its branches, or a branch back to its stage.
// Both meet here.
template <class Form>
struct Send {
  static constexpr const char* name = "send";
  typename Form::Value x;
  int32_t link;
  int64_t at;

  static constexpr auto fields() {
    using Self = Send;
    return std::tuple{read("x", &Self::x), attribute("link", &Self::link), attribute("at", &Self::at)};
  }
  void check(const OperatorCheck& check) const { check_link(check, x, link, at); }
};

// out = what the other end of a link sends.
template <class Form>
struct Receive {
  static constexpr const char* name = "receive";
  typename Form::Value out;
  int32_t link;
  int64_t at;

  static constexpr auto fields() {
    using Self = Receive;
    return std::tuple{write("out", &Self::out), attribute("link", &Self::link), attribute("at", &Self::at)};
  }
  void check(const OperatorCheck& check) const { check_link(check, out, link, at); }
};

}  // namespace billfish::operators
