// The test harness: TEST(name) { CHECK(x == y); }. A failed comparison prints both of its sides, so CHECK(a && b) does
// not compile: it is two checks. The program prints "N passed, N failed" and exits 1 on failure; `billfish_native_tests
// FILTER` runs only the tests whose name contains FILTER.
#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#ifdef __clang__
#pragma clang diagnostic ignored "-Woverloaded-shift-op-parentheses"  // `Decompose() << a == b` is meant
#endif

namespace check {

struct Test {
  const char* name;
  void (*run)();
};
std::vector<Test>& tests();

struct Register {
  Register(const char* name, void (*run)()) { tests().push_back({name, run}); }
};

void fail(const char* file, int line, const std::string& message);

// What `body` fails with, instead of failing the test that runs it.
std::vector<std::string> failures_of(const std::function<void()>& body);

// Ends a test: a REQUIRE was not met.
struct Stop {};

// CHECK(x == check::Near{3.5, 1e-4})
struct Near {
  double value;
  double tolerance;
  friend bool operator==(double x, const Near& near) { return std::abs(x - near.value) <= near.tolerance; }
};

template <typename T>
concept is_text = std::convertible_to<const T&, std::string_view> && !std::same_as<T, std::nullptr_t>;
template <typename T>
concept is_list = !is_text<T> && requires(const T& list) {
  std::begin(list), std::end(list), list.size();
};

// A value as a failed check prints it: strings quoted, enums as numbers, floats with all digits that they differ in.
template <typename T>
std::string text(const T& value) {
  if constexpr (std::same_as<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (is_text<T>) {
    if constexpr (std::is_pointer_v<T>) {
      if (value == nullptr) return "nullptr";
    }
    return '"' + std::string(std::string_view(value)) + '"';
  } else if constexpr (std::is_enum_v<T>) {
    return text(static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (std::same_as<T, char>) {
    return {'\'', value, '\''};
  } else if constexpr (std::same_as<T, float>) {
    char digits[64];
    return {digits, std::to_chars(digits, std::end(digits), value, std::chars_format::general, 9).ptr};
  } else if constexpr (std::is_arithmetic_v<T>) {
    char digits[64];
    return {digits, std::to_chars(digits, std::end(digits), value).ptr};
  } else if constexpr (std::same_as<T, Near>) {
    return text(value.value) + " +- " + text(value.tolerance);
  } else if constexpr (std::same_as<T, std::nullptr_t>) {
    return "nullptr";
  } else if constexpr (std::same_as<T, std::nullopt_t>) {
    return "nullopt";
  } else if constexpr (requires { value.has_value(), *value; }) {
    return value.has_value() ? text(*value) : "nullopt";
  } else if constexpr (requires { value.first, value.second; }) {
    return '(' + text(value.first) + ", " + text(value.second) + ')';
  } else if constexpr (is_list<T>) {
    std::string list;
    size_t count = 0;
    for (const auto& element : value) {
      if (count++ < 16) list += (list.empty() ? "" : ", ") + text(element);
    }
    return '{' + list + (count > 16 ? ", ... " + std::to_string(count) + " in all}" : "}");
  } else if constexpr (requires(std::ostream & stream) { stream << value; }) {
    std::ostringstream stream;
    stream << value;
    return stream.str();
  } else {
    return "{?}";
  }
}

// Where two lists differ first, which their first elements may not show.
template <typename A, typename B>
std::string first_difference(const A& a, const B& b) {
  if constexpr (is_list<A> && is_list<B>) {
    const auto [in_a, in_b] = std::mismatch(std::begin(a), std::end(a), std::begin(b), std::end(b));
    if (in_a == std::end(a) || in_b == std::end(b))
      return "; " + text(a.size()) + " and " + text(b.size()) + " elements";
    return "; [" + text(std::distance(std::begin(a), in_a)) + "] is " + text(*in_a) + " and " + text(*in_b);
  }
  return "";
}

// What a CHECK is given: an Outcome, or the Left of a comparison.
struct Condition {};

struct Outcome : Condition {
  bool holds;
  std::string sides;  // of a comparison that does not hold

  Outcome(bool holds, std::string sides = {}) : holds(holds), sides(std::move(sides)) {}
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"  // `vector.size() == 3`: the constant has become an int

// The left side of a comparison, or all of a condition that compares nothing.
template <typename T>
struct Left : Condition {
  const T& value;

  explicit Left(const T& value) : value(value) {}

  template <typename U>
  Outcome operator==(const U& right) const {
    if (value == right) return true;
    return {false, text(value) + " == " + text(right) + first_difference(value, right)};
  }
  template <typename U>
  Outcome operator!=(const U& right) const {
    return outcome(value != right, " != ", right);
  }
  template <typename U>
  Outcome operator<(const U& right) const {
    return outcome(value < right, " < ", right);
  }
  template <typename U>
  Outcome operator<=(const U& right) const {
    return outcome(value <= right, " <= ", right);
  }
  template <typename U>
  Outcome operator>(const U& right) const {
    return outcome(value > right, " > ", right);
  }
  template <typename U>
  Outcome operator>=(const U& right) const {
    return outcome(value >= right, " >= ", right);
  }
  operator Outcome() const { return static_cast<bool>(value); }

 private:
  template <typename U>
  Outcome outcome(bool holds, const char* comparison, const U& right) const {
    if (holds) return true;
    return {false, text(value) + comparison + text(right)};
  }
};

#pragma GCC diagnostic pop

// `Decompose() << a == b` is an Outcome with both sides: << binds tighter than comparisons, and + tighter than that.
struct Decompose {
  template <typename T>
  Left<T> operator<<(const T& value) const {
    return Left<T>(value);
  }
};

template <std::derived_from<Condition> L, typename R>
Outcome operator&&(const L&, const R&) {
  static_assert(!std::derived_from<L, Condition>, "CHECK(a && b) would not print its sides: write CHECK(a); CHECK(b);");
  return false;
}
template <std::derived_from<Condition> L, typename R>
Outcome operator||(const L&, const R&) {
  static_assert(!std::derived_from<L, Condition>, "CHECK(a || b) would not print its sides: write CHECK((a || b))");
  return false;
}

inline std::string described(const char* condition, const Outcome& outcome) {
  return std::string("not true: ") + condition + (outcome.sides.empty() ? "" : ": " + outcome.sides);
}

}  // namespace check

// Sets an environment variable while it lives.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

#define TEST(name)                                            \
  static void test_##name();                                  \
  static check::Register register_##name(#name, test_##name); \
  static void test_##name()

#define CHECK_OR(otherwise, ...)                                                      \
  do {                                                                                \
    const check::Outcome check_outcome = check::Decompose() << __VA_ARGS__;           \
    if (!check_outcome.holds) {                                                       \
      check::fail(__FILE__, __LINE__, check::described(#__VA_ARGS__, check_outcome)); \
      otherwise;                                                                      \
    }                                                                                 \
  } while (0)

#define CHECK(...) CHECK_OR(static_cast<void>(0), __VA_ARGS__)

// For what later lines of the test rely on: ends the test.
#define REQUIRE(...) CHECK_OR(throw check::Stop(), __VA_ARGS__)

// CHECK_MESSAGE(x < y, "of row " << row): the stream is evaluated only on failure.
#define CHECK_MESSAGE(condition, stream)                                              \
  do {                                                                                \
    const check::Outcome check_outcome = check::Decompose() << condition;             \
    if (!check_outcome.holds) {                                                       \
      std::ostringstream check_message;                                               \
      check_message << check::described(#condition, check_outcome) << ": " << stream; \
      check::fail(__FILE__, __LINE__, check_message.str());                           \
    }                                                                                 \
  } while (0)

#define CHECK_THROWS(expression, error_code)                                                           \
  do {                                                                                                 \
    std::string check_thrown = "nothing";                                                              \
    try {                                                                                              \
      expression;                                                                                      \
    } catch (const billfish::Error& error) {                                                           \
      check_thrown = error.code();                                                                     \
    }                                                                                                  \
    if (check_thrown != error_code) {                                                                  \
      check::fail(__FILE__, __LINE__, #expression " threw " + check_thrown + ", not " + (error_code)); \
    }                                                                                                  \
  } while (0)
