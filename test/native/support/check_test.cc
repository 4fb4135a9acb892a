#include "support/check.h"

#include <cstdint>
#include <limits>
#include <optional>

#include "engine/error.h"

using check::failures_of;
using check::Near;

namespace {

enum class Color : uint8_t { red, green };

struct Point {
  int x;
  bool operator==(const Point&) const = default;
};

using Messages = std::vector<std::string>;

}  // namespace

TEST(a_failed_comparison_prints_both_sides) {
  const int four = 4;
  CHECK(failures_of([&] { CHECK(four + 1 == 6); }) == Messages{"not true: four + 1 == 6: 5 == 6"});
  CHECK(failures_of([&] { CHECK(four != 4); }) == Messages{"not true: four != 4: 4 != 4"});
  CHECK(failures_of([&] { CHECK(four < 4); }) == Messages{"not true: four < 4: 4 < 4"});
  CHECK(failures_of([&] { CHECK(four > 4); }) == Messages{"not true: four > 4: 4 > 4"});
  CHECK(failures_of([&] { CHECK(four <= 3); }) == Messages{"not true: four <= 3: 4 <= 3"});
  CHECK(failures_of([&] { CHECK(four >= 5); }) == Messages{"not true: four >= 5: 4 >= 5"});
}

TEST(a_check_that_holds_says_nothing) {
  const std::vector<int> numbers{1, 2};
  const auto holding = [&] {
    CHECK(numbers.size() == 2);
    CHECK(numbers == std::vector<int>{1, 2});
    CHECK(2.0 == Near{2.001, 0.01});
    CHECK((numbers.empty() || numbers[0] == 1));
    CHECK_MESSAGE(numbers[1] > 1, "which is not built");
    CHECK_THROWS(throw billfish::Error("ABORTED", "by the test"), "ABORTED");
    REQUIRE(numbers.size() > 1);
  };
  CHECK(failures_of(holding) == Messages{});
}

TEST(a_failed_check_prints_values_of_every_kind) {
  const auto message = [](const std::function<void()>& body) {
    const Messages messages = failures_of(body);
    const std::string& all = messages.at(0);
    return all.substr(all.rfind(": ") + 2);
  };
  const std::string word = "abc";
  const char* none = nullptr;
  CHECK(message([&] { CHECK(word == "abd"); }) == R"("abc" == "abd")");
  CHECK(message([&] { CHECK(none == word.c_str()); }) == R"(nullptr == "abc")");
  CHECK(message([] { CHECK(Color::red == Color::green); }) == "0 == 1");
  CHECK(message([] { CHECK(int8_t{65} == 66); }) == "65 == 66");
  CHECK(message([] { CHECK('a' == 'b'); }) == "'a' == 'b'");
  CHECK(message([] { CHECK(true == false); }) == "true == false");
  CHECK(message([] { CHECK(0.1f == 0.1); }) == "0.100000001 == 0.1");
  CHECK(message([] { CHECK(0.5 == Near{0.6, 1e-3}); }) == "0.5 == 0.6 +- 0.001");
  CHECK(message([] { CHECK(std::numeric_limits<double>::quiet_NaN() == Near{0, 1}); }) == "nan == 0 +- 1");
  CHECK(message([] { CHECK(std::optional(3) == std::nullopt); }) == "3 == nullopt");
  CHECK(message([] { CHECK(std::optional<int>() == 3); }) == "nullopt == 3");
  CHECK(message([] { CHECK(std::pair(1, 2.5) == std::pair(1, 2.25)); }) == "(1, 2.5) == (1, 2.25)");
  CHECK(message([] { CHECK(Point{1} == Point{2}); }) == "{?} == {?}");
}

TEST(lists_that_differ_print_where) {
  std::vector<int> numbers(40);
  std::vector<int> others = numbers;
  others[30] = 7;
  const std::string zeros = "{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ... 40 in all}";
  CHECK(failures_of([&] { CHECK(numbers == others); }) ==
        Messages{"not true: numbers == others: " + zeros + " == " + zeros + "; [30] is 0 and 7"});
  numbers.resize(1);
  others.resize(2);
  CHECK(failures_of([&] { CHECK(numbers == others); }) ==
        Messages{"not true: numbers == others: {0} == {0, 0}; 1 and 2 elements"});
}

TEST(a_failed_check_with_a_message_prints_that_too) {
  const int row = 3;
  CHECK(failures_of([&] { CHECK_MESSAGE(row == 4, "of " << 5 << " rows"); }) ==
        Messages{"not true: row == 4: 3 == 4: of 5 rows"});
  CHECK(failures_of([] { CHECK_THROWS(throw billfish::Error("ABORTED", "by the test"), "DISPOSED"); })
            .at(0)
            .ends_with(" threw ABORTED, not DISPOSED"));
}

TEST(a_requirement_that_is_not_met_ends_the_test) {
  bool went_on = false;
  const Messages messages = failures_of([&] {
    REQUIRE(1 + 1 == 3);
    went_on = true;
  });
  CHECK(messages == Messages{"not true: 1 + 1 == 3: 2 == 3"});
  CHECK(!went_on);
}
