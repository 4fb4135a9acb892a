// A position in a kernel's source: the default argument `Location at = Location::current()` of a primitive is its call
// site. (std::source_location, which clang 14 lacks.)
#pragma once
#include <string>
#include <string_view>

namespace billfish::emulator {

struct Location {
  const char* file = "";
  int line = 0;

  static constexpr Location current(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
  bool operator==(const Location& other) const {
    return line == other.line && (file == other.file || std::string_view(file) == other.file);
  }
  std::string text() const {
    const std::string path = file;
    const size_t slash = path.find_last_of('/');
    return path.substr(slash == std::string::npos ? 0 : slash + 1) + ":" + std::to_string(line);
  }
};

}  // namespace billfish::emulator
