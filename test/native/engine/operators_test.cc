// Every operator on every backend against plain fp64 loops: one function each, which the list of operators asks for.
// They are in operators/, in files as in binding/engine/operators.
#include "support/operator_cases.h"

using namespace billfish;

#define BILLFISH_TEST(Name) \
  TEST(operators_##Name) { on_every_backend(check_##Name); }
BILLFISH_BACKEND_OPERATORS(BILLFISH_TEST)
#undef BILLFISH_TEST
