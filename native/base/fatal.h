// Owns: fatal(), the end of a process that cannot go on serving though no invariant of ours is
// broken (the kernel refused what a queue needs). Any thread. A queue thread that ended alone would
// hang its device; an abort is seen by the controller, which recovers it.
// Must not: be used for what a backend, a file or a user can cause.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "base/errno_name.h"

namespace unbd {

// result is a negative errno.
[[noreturn]] inline void fatal(const char* what, unsigned queue, int result) {
  std::fprintf(stderr, "ublk-nbd: queue %u cannot go on: %s: %s\n", queue, what,
               errno_name(-result));
  std::abort();
}

}  // namespace unbd
