// Owns: Arguments, the helper's `key=value` words, read once and checked. Any thread.
// Must not: pass over a word that nobody asks for: a misspelt key is an error.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace unbd {

class Arguments {
 public:
  // words: argv without the program's and the command's.
  Arguments(int count, char** words);

  // A number, decimal or 0x…, at most maximum; fallback where the key is absent. The first problem
  // is kept for error().
  uint64_t number(std::string_view key, uint64_t maximum, uint64_t fallback);
  uint64_t required_number(std::string_view key, uint64_t maximum);
  bool flag(std::string_view key) { return number(key, 1, 0) == 1; }
  // Feature flags: a number, or names with commas between.
  uint64_t features(std::string_view key);
  std::string text(std::string_view key, std::string_view fallback);
  bool has(std::string_view key) const { return values_.contains(key); }

  // After all were asked for: one line for people, or empty. An unused key is an error too.
  std::string error() const;

 private:
  struct Value {
    std::string text;
    bool used = false;
  };

  const std::string* take(std::string_view key);
  void fail(std::string_view key, std::string_view problem);

  std::map<std::string, Value, std::less<>> values_;
  std::string error_;
};

}  // namespace unbd
