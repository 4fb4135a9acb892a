// For programs that tests write by hand: every value gets a place of its own.
#pragma once
#include "engine/program.h"

inline void place_apart(billfish::Program& program) {
  program.places.clear();
  program.token_elements = program.logit_elements = 0;
  for (const billfish::Value& value : program.values) {
    if (value.view_of >= 0 && value.view_of < static_cast<billfish::ValueId>(program.places.size())) {
      program.places.push_back(program.places[value.view_of]);
      continue;
    }
    int64_t& elements = value.rows == billfish::RowKind::tokens ? program.token_elements : program.logit_elements;
    const int64_t stride = (value.width + 15) / 16 * 16;
    program.places.push_back({elements, stride});
    elements += stride;
  }
}
