#include "engine/canonical.h"

#include "engine/program.h"

namespace billfish {

CanonicalShape canonical_shape(const WeightShape& weight) {
  CanonicalShape shape;
  shape.name = weight.name;
  shape.bits = weight.bits;
  shape.codes = weight.codes;
  shape.out = weight.out;
  shape.in = weight.in;
  shape.group_size = weight.group_size;
  shape.has_zero_points = weight.has_zero_points;
  shape.has_bias = weight.has_bias;
  shape.has_output_scales = weight.has_output_scales;
  shape.scale_type = weight.type;
  shape.has_group_index = weight.has_group_index;
  shape.experts = weight.experts;
  return shape;
}

}  // namespace billfish
