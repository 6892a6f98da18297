// Owns: the implementation of Arguments (see arguments.h). Any thread.
// Must not: pass over a word that nobody asks for.
#include "helper/arguments.h"

#include <charconv>
#include <optional>

#include "ublk/names.h"

namespace unbd {
namespace {

std::optional<uint64_t> parse_number(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x")) {
    base = 16;
    text.remove_prefix(2);
  }
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Arguments::Arguments(int count, char** words) {
  for (int i = 0; i < count; ++i) {
    std::string_view word = words[i];
    size_t equals = word.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      fail(word, "is not key=value");
      continue;
    }
    std::string key(word.substr(0, equals));
    if (!values_.try_emplace(key, Value{std::string(word.substr(equals + 1))}).second)
      fail(key, "is given twice");
  }
}

const std::string* Arguments::take(std::string_view key) {
  auto found = values_.find(key);
  if (found == values_.end()) return nullptr;
  found->second.used = true;
  return &found->second.text;
}

void Arguments::fail(std::string_view key, std::string_view problem) {
  if (error_.empty()) error_ = std::string(key) + " " + std::string(problem);
}

uint64_t Arguments::number(std::string_view key, uint64_t maximum, uint64_t fallback) {
  const std::string* text = take(key);
  if (text == nullptr) return fallback;
  std::optional<uint64_t> value = parse_number(*text);
  if (value && *value <= maximum) return *value;
  fail(key, value ? "is too large" : "is not a number");
  return fallback;
}

uint64_t Arguments::required_number(std::string_view key, uint64_t maximum) {
  if (!has(key)) fail(key, "is missing");
  return number(key, maximum, 0);
}

uint64_t Arguments::features(std::string_view key) {
  const std::string* text = take(key);
  if (text == nullptr) return 0;
  if (std::optional<uint64_t> value = parse_number(*text)) return *value;
  uint64_t flags = 0;
  std::string_view rest = *text;
  while (!rest.empty()) {
    size_t comma = rest.find(',');
    uint64_t flag = feature_by_name(rest.substr(0, comma));
    if (flag == 0) fail(key, "has a name that is no feature flag");
    flags |= flag;
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
  }
  return flags;
}

std::string Arguments::text(std::string_view key, std::string_view fallback) {
  const std::string* found = take(key);
  return found != nullptr ? *found : std::string(fallback);
}

std::string Arguments::error() const {
  if (!error_.empty()) return error_;
  for (const auto& [key, value] : values_)
    if (!value.used) return key + " is not an argument of this command";
  return {};
}

}  // namespace unbd
