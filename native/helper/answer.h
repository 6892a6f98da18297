// Owns: Answer, what a control command found: fields when it worked, else which step failed and
// how. Any thread.
// Must not: be printed in part.
#pragma once

#include <string>

#include "helper/json.h"

namespace unbd {

struct Answer {
  JsonObject fields;
  int result = 0;  // 0 or -errno
  std::string step;
  std::string text;

  // Records a step; true when it worked.
  bool check(int step_result, std::string_view step_name, std::string_view step_text = {}) {
    if (step_result >= 0) return true;
    result = step_result;
    step = step_name;
    text = step_text;
    return false;
  }
};

}  // namespace unbd
