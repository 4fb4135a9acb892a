// What the check() of an operator (operators.h) asks of the program that it is in.
#pragma once
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "engine/operands.h"

namespace billfish {

struct Program;

class OperatorCheck {
 public:
  OperatorCheck(const Program& program, const std::vector<WeightShape>& weights)
      : program_(program), weights_(weights) {}

  // All of them fail if there is none.
  const Value& value(ValueId id) const;
  const WeightShape& weight(WeightId id) const;
  const RopeSpec& rope(int32_t index) const;
  const CacheLayer& cache_layer(int32_t index) const;
  const StateLayer& state_layer(int32_t index) const;

  void same_shape(ValueId a, ValueId b) const;
  void same_class(ValueId a, ValueId b) const;
  // The columns of x are heads * head_dim, and it has a row a token.
  void heads(ValueId x, int64_t heads, int64_t head_dim) const;

  // Throws INTERNAL, naming the operator; the parts are strings and numbers.
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    std::ostringstream text;
    (text << ... << parts);
    refuse(text.str());
  }

 protected:
  [[noreturn]] void refuse(const std::string& what) const;

  static constexpr size_t no_operator = static_cast<size_t>(-1);
  const Program& program_;
  const std::vector<WeightShape>& weights_;
  size_t index_ = no_operator;  // of the operator that is being checked
};

}  // namespace billfish
