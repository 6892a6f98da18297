// Owns: operator new of a test's executable, which counts what it allocates: all that the core
// could use. Included by one file of it.
// Runs on: the test's thread.
// Must not: be used with threads: the count is a plain number.
#pragma once

#include <cstdlib>
#include <new>

#include "base/assert.h"

namespace unbd::test {
inline unsigned allocations = 0;
}

void* operator new(size_t size) {
  ++unbd::test::allocations;
  void* const place = std::malloc(size);
  UN_ASSERT(place != nullptr);
  return place;
}
void operator delete(void* place) noexcept {
  std::free(place);
}
void operator delete(void* place, size_t) noexcept {
  std::free(place);
}
