// From token ids to rows, and from all rows to those whose logits are wanted. See operators.h.
#pragma once
#include <cstdint>
#include <tuple>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"

namespace billfish::operators {

// out = table[token ids - first], and zeros for tokens that have no row in the table.
template <class Form>
struct Embedding {
  static constexpr const char* name = "embedding";
  typename Form::Weight table;
  typename Form::Value out;
  int64_t first = 0;

  static constexpr auto fields() {
    using Self = Embedding;
    return std::tuple{weight("table", &Self::table, WeightUse::table), write("out", &Self::out),
                      attribute("first", &Self::first)};
  }
  void check(const OperatorCheck& check) const {
    const auto& rows = check.weight(table);
    const auto& value = check.value(out);
    if (value.rows != RowKind::tokens) check.fail("the rows of out are not those of the tokens");
    if (value.width != rows.in) check.fail("out is ", value.width, " wide, but table ", rows.name, " ", rows.in);
    if (first < 0) check.fail("the table begins at token ", first);
  }
};

// out = the rows of x whose logits are wanted: in a call, out.rows of them from number `first` on.
template <class Form>
struct Gather {
  static constexpr const char* name = "gather";
  typename Form::Value x, out;
  typename Form::FirstLogitRow first = {};

  static constexpr auto fields() {
    using Self = Gather;
    return std::tuple{read("x", &Self::x), write("out", &Self::out), first_logit_row(&Self::first)};
  }
  void check(const OperatorCheck& check) const {
    const auto& from = check.value(x);
    const auto& to = check.value(out);
    if (from.rows != RowKind::tokens || to.rows != RowKind::logits) check.fail("it goes from token rows to logit rows");
    if (from.width != to.width) check.fail("x is ", from.width, " wide, and out ", to.width);
  }
};

}  // namespace billfish::operators
