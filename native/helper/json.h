// Owns: JsonObject, one flat JSON object on one line: what the helper answers with. Any thread.
// Must not: grow into a library; values are numbers, strings, booleans and arrays of strings or
// numbers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace unbd {

class JsonObject {
 public:
  JsonObject& add(std::string_view key, std::string_view value);
  JsonObject& add(std::string_view key, const char* value) {
    return add(key, std::string_view(value));
  }
  JsonObject& add(std::string_view key, uint64_t value);
  JsonObject& add_signed(std::string_view key, int64_t value);
  JsonObject& add_flag(std::string_view key, bool value);
  JsonObject& add_list(std::string_view key, std::span<const std::string_view> values);
  JsonObject& add_list(std::string_view key, std::span<const unsigned> values);

  std::string text() const { return "{" + members_ + "}"; }

 private:
  void add_key(std::string_view key);

  std::string members_;
};

}  // namespace unbd
