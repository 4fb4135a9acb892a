#include "gemm/launch_gemm_body.h"

namespace billfish::BILLFISH_TARGET {

template void launch_gemm<bfloat16, 16, false>(Stream&, const GemmLaunch&, const GemmArguments&);

}  // namespace billfish::BILLFISH_TARGET
