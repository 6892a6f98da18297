// Owns: the implementation of JsonObject (see json.h). Any thread.
// Must not: emit anything but ASCII; other bytes of a path are replaced.
#include "helper/json.h"

namespace unbd {
namespace {

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c < ' ' || c > '~') {
      result += '?';
    } else {
      result += c;
    }
  }
  return result + '"';
}

}  // namespace

void JsonObject::add_key(std::string_view key) {
  if (!members_.empty()) members_ += ',';
  members_ += quoted(key) + ':';
}

JsonObject& JsonObject::add(std::string_view key, std::string_view value) {
  add_key(key);
  members_ += quoted(value);
  return *this;
}

JsonObject& JsonObject::add(std::string_view key, uint64_t value) {
  add_key(key);
  members_ += std::to_string(value);
  return *this;
}

JsonObject& JsonObject::add_signed(std::string_view key, int64_t value) {
  add_key(key);
  members_ += std::to_string(value);
  return *this;
}

JsonObject& JsonObject::add_flag(std::string_view key, bool value) {
  add_key(key);
  members_ += value ? "true" : "false";
  return *this;
}

JsonObject& JsonObject::add_list(std::string_view key, std::span<const std::string_view> values) {
  std::string list;
  for (std::string_view value : values)
    list += (list.empty() ? "" : ",") + quoted(value);
  add_key(key);
  members_ += "[" + list + "]";
  return *this;
}

JsonObject& JsonObject::add_list(std::string_view key, std::span<const unsigned> values) {
  std::string list;
  for (unsigned value : values)
    list += (list.empty() ? "" : ",") + std::to_string(value);
  add_key(key);
  members_ += "[" + list + "]";
  return *this;
}

}  // namespace unbd
