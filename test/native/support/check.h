// A test harness of forty lines: TEST(name) { CHECK(x == y); }. The program prints "N passed, N failed" and exits 1 on
// failure. `billfish_native_tests FILTER` runs only the tests whose name contains FILTER.
#pragma once
#include <cmath>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
};
std::vector<Test>& tests();
void fail(const char* file, int line, const std::string& message);

struct Register {
  Register(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

}  // namespace check

#define TEST(name)                                            \
  static void test_##name();                                  \
  static check::Register register_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) check::fail(__FILE__, __LINE__, "not true: " #condition); \
  } while (0)

// CHECK_MESSAGE(x < y, "x " << x): the stream is evaluated only on failure.
#define CHECK_MESSAGE(condition, stream)           \
  do {                                             \
    if (!(condition)) {                            \
      std::ostringstream text;                     \
      text << #condition << ": " << stream;        \
      check::fail(__FILE__, __LINE__, text.str()); \
    }                                              \
  } while (0)

#define CHECK_THROWS(expression, error_code)                                               \
  do {                                                                                     \
    std::string code = "nothing";                                                          \
    try {                                                                                  \
      expression;                                                                          \
    } catch (const billfish::Error& error) {                                               \
      code = error.code();                                                                 \
    }                                                                                      \
    if (code != error_code) check::fail(__FILE__, __LINE__, #expression " threw " + code); \
  } while (0)
