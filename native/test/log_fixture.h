// Owns: what the tests of the unflushed log share: a folder of their own, logs in it, and what a
// log holds as plain values.
// Runs on the test's thread.
// Must not: look into a log but through LogReader.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nbd/unflushed_log.h"

namespace log_test {

using unbd::LogEntry;
using unbd::LogKind;
using unbd::LogReader;
using unbd::UnflushedLog;

constexpr uint64_t kRingBytes = UnflushedLog::kQueueBytesMin;

// For what must hold before a test can go on.
inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "# required: %s\n", what);
  std::abort();
}

// A folder in memory, where there is one, that goes with the object.
class Folder {
 public:
  Folder() {
    path_ = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : "/tmp/";
    path_ += "unflushed-log-XXXXXX";
    require(::mkdtemp(path_.data()) != nullptr, "a temporary folder");
  }
  ~Folder() {
    for (const std::string& name : names_)
      ::unlink(name.c_str());
    ::rmdir(path_.c_str());
  }
  std::string file(const char* name = "log") {
    names_.push_back(path_ + "/" + name);
    return names_.back();
  }

 private:
  std::string path_;
  std::vector<std::string> names_;
};

using Log = std::shared_ptr<UnflushedLog>;

inline Log create(const std::string& path, unsigned queues, uint64_t bytes = kRingBytes) {
  Log log;
  std::string text;
  require(UnflushedLog::create(path, queues, bytes, &log, &text) == 0, text.c_str());
  return log;
}

inline Log reopen(const std::string& path, unsigned queues, uint64_t bytes = kRingBytes) {
  Log log;
  std::string text;
  require(UnflushedLog::open(path, queues, bytes, &log, &text) == 0, text.c_str());
  return log;
}

// An entry, by value.
struct Entry {
  uint64_t sequence = 0;
  LogKind kind = LogKind::kWrite;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::string payload;
  bool operator==(const Entry&) const = default;
};

inline std::vector<Entry> entries_of(const UnflushedLog& log) {
  std::vector<Entry> entries;
  LogReader reader(log);
  for (LogEntry entry; reader.next(&entry);) {
    entries.push_back({entry.sequence, entry.kind, entry.offset_bytes, entry.length_bytes, {}});
    if (entry.payload != nullptr)
      entries.back().payload.assign(reinterpret_cast<const char*>(entry.payload),
                                    entry.length_bytes);
  }
  return entries;
}

// Bytes that only this write has.
inline std::string payload_of(uint64_t seed, size_t length) {
  std::string bytes(length, '\0');
  uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

// A write as a queue makes it; false: the log is full.
inline bool write(UnflushedLog& log, unsigned queue, uint64_t offset, const std::string& payload) {
  if (!log.reserve(queue, payload.size())) return false;
  log.append(queue, LogKind::kWrite, offset, payload.size(),
             reinterpret_cast<const std::byte*>(payload.data()));
  return true;
}

inline bool note(UnflushedLog& log, unsigned queue, LogKind kind, uint64_t offset,
                 uint64_t length) {
  if (!log.reserve(queue, 0)) return false;
  log.append(queue, kind, offset, length, nullptr);
  return true;
}

}  // namespace log_test
