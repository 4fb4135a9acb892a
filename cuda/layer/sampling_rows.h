// The sampling kernel.
#pragma once
#include <cstdint>

#include "cuda/memory/sampler_layout.h"
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

using gpu::Alternative, gpu::LogitEdit, gpu::SampleAnswer, gpu::SampleRequest;
static_assert(sizeof(SampleRequest) == 64 && sizeof(SampleAnswer) == 32);  // read 16 bytes at a time

struct SampleRows {
  Matrix<float> logits;  // edited and restored by the kernel
  const SampleRequest* requests;
  LogitEdit* edits;
  SampleAnswer* answers;
  Alternative* alternatives;
};
void sample_rows(Stream& stream, const SampleRows& rows);

}  // namespace billfish::BILLFISH_TARGET
