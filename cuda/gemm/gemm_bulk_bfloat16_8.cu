#include "gemm/launch_bulk_gemm_body.h"

namespace billfish::BILLFISH_TARGET {

template void launch_bulk_gemm<bfloat16, 8, false>(Stream&, const GemmLaunch&, const GemmArguments&);
template void launch_bulk_gemm<bfloat16, 8, true>(Stream&, const GemmLaunch&, const GemmArguments&);

}  // namespace billfish::BILLFISH_TARGET
