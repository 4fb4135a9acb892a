// For tests: pretends that the kernels of an emulated device were compiled for an older architecture.
#pragma once
#include "machine/device.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// While it lives; streams and backends are made within that time.
class PretendedCode {
 public:
  PretendedCode(int index, int architecture) : index_(index), before_(emulator::device(index).code_architecture) {
    set(architecture);
  }
  ~PretendedCode() { set(before_); }
  PretendedCode(const PretendedCode&) = delete;
  PretendedCode& operator=(const PretendedCode&) = delete;

 private:
  void set(int architecture) const {
    emulator::device(index_).code_architecture = architecture;
    Device::at(index_).properties_.code_architecture = architecture;
  }
  int index_, before_;
};

}  // namespace billfish::BILLFISH_TARGET
