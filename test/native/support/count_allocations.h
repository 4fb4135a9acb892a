// This program's operator new counts, except under the sanitizers, which bring one of their own.
#pragma once

extern const bool allocations_are_counted;
int allocations_of_this_thread();
