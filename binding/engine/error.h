// The one error of the native side. It becomes the BillfishError of the JavaScript side, code and message unchanged.
#pragma once
#include <stdexcept>
#include <string>
#include <utility>

namespace billfish {

// `code` is stable and upper case (INVALID_CHECKPOINT, INVALID_OPTION, OUT_OF_MEMORY, ABORTED, DISPOSED, INTERNAL);
// `message` names the tensor or option, the numbers, and the way out.
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const noexcept { return code_; }

 private:
  std::string code_;
};

}  // namespace billfish
