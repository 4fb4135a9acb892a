#include "gemm/launch_gemm_body.h"

namespace billfish::BILLFISH_TARGET {

template void launch_gemm<half, 8, false>(Stream&, const GemmLaunch&, const GemmArguments&);
template void launch_gemm<half, 8, true>(Stream&, const GemmLaunch&, const GemmArguments&);

}  // namespace billfish::BILLFISH_TARGET
