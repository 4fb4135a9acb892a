#include "cuda/memory/sampler_layout.h"

#include "cuda/memory/allocation.h"

namespace billfish::gpu {

SamplerLayout::SamplerLayout(const SamplerLimits& limits) {
  const auto rows = static_cast<size_t>(limits.max_rows), vocabulary = static_cast<size_t>(limits.vocabulary);
  edits_at_most = vocabulary + 1024 * rows;
  alternatives_at_most = vocabulary + 64 * rows;
  Sections sections;
  sections.take<SampleRequest>(rows);
  edits = sections.take<LogitEdit>(edits_at_most);
  image_bytes = sections.end();
  answers = sections.take<SampleAnswer>(rows);
  alternatives = sections.take<Alternative>(alternatives_at_most);
  bytes = sections.end();
}

}  // namespace billfish::gpu
