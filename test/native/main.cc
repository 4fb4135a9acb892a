#include <cstring>

#include "check.h"

namespace check {

static int failures_in_test = 0;

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

void fail(const char* file, int line, const std::string& message) {
  ++failures_in_test;
  if (failures_in_test <= 10) std::printf("  %s:%d: %s\n", file, line, message.c_str());
}

}  // namespace check

int main(int argc, char** argv) {
  int passed = 0, failed = 0;
  for (const check::Test& test : check::tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    check::failures_in_test = 0;
    test.run();
    if (check::failures_in_test == 0) {
      ++passed;
    } else {
      ++failed;
      std::printf("FAILED %s (%d checks)\n", test.name, check::failures_in_test);
    }
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
