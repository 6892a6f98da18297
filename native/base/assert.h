// Owns: UN_ASSERT, the check of the program's own invariants, on in every build.
// Runs on any thread. An abort is the safe answer to a broken invariant: nothing wrong is
// acknowledged to the kernel after it.
// Must not: be used on anything that a backend, a file or a user can influence.
#pragma once

#include <cstdio>
#include <cstdlib>

#define UN_ASSERT(condition)                                                                 \
  do {                                                                                       \
    if (!(condition)) [[unlikely]] {                                                         \
      std::fprintf(stderr, "ublk-nbd: invariant broken: %s (%s:%d)\n", #condition, __FILE__, \
                   __LINE__);                                                                \
      std::abort();                                                                          \
    }                                                                                        \
  } while (0)
