// Owns: the names of errno values, as programs and people know them (EBUSY). Pure, any thread.
// Must not: translate; a name is a name, sentences are the control plane's.
#pragma once

#include <string.h>

namespace unbd {

// error is positive. "E?" for a number that libc does not know.
inline const char* errno_name(int error) {
  const char* name = ::strerrorname_np(error);
  return name != nullptr ? name : "E?";
}

}  // namespace unbd
