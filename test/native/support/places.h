// For programs that tests write by hand: every value gets a place of its own, with 4 bytes per element.
#pragma once
#include "engine/program.h"

inline void place_apart(billfish::Program& program) {
  program.places.clear();
  program.token_bytes = program.logit_bytes = 0;
  for (const billfish::Value& value : program.values) {
    if (value.view_of >= 0 && value.view_of < static_cast<billfish::ValueId>(program.places.size())) {
      program.places.push_back(program.places[value.view_of]);
      continue;
    }
    int64_t& bytes = value.rows == billfish::RowKind::tokens ? program.token_bytes : program.logit_bytes;
    const int64_t stride = (value.width * 4 + 63) / 64 * 64;
    program.places.push_back({bytes, stride});
    bytes += stride;
  }
}
