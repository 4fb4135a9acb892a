#include "gemm/launch_gemm_body.h"

namespace billfish::BILLFISH_TARGET {

template void launch_gemm<half, 4, false>(Stream&, const GemmLaunch&, const GemmArguments&);
template void launch_gemm<half, 4, true>(Stream&, const GemmLaunch&, const GemmArguments&);

}  // namespace billfish::BILLFISH_TARGET
