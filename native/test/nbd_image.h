// Owns: Image, a correct backend for a Fixture: bytes in memory that requests read and change.
// Runs on the test's thread.
// Must not: share a line with the core, or answer what it was not asked.
#pragma once

#include <cstring>
#include <vector>

#include "test/nbd_fixture.h"

namespace nbd_test {

class Image {
 public:
  // Filled with the pattern.
  explicit Image(size_t size_bytes) : bytes_(size_bytes) {
    for (size_t at = 0; at < size_bytes; ++at)
      bytes_[at] = pattern_at(at);
    durable_ = bytes_;
  }

  // Takes the next request from the fixture's backend, with its payload, and carries it out.
  Sent take(Fixture& fixture) {
    const Sent sent = fixture.next_request();
    REQUIRE(sent.offset + sent.length <= bytes_.size());
    uint8_t* const place = bytes_.data() + sent.offset;
    if (sent.type == kCmdWrite && sent.length > 0)
      std::memcpy(place, fixture.next_bytes(sent.length).data(), sent.length);
    if (sent.type == kCmdTrim || sent.type == kCmdWriteZeroes) std::memset(place, 0, sent.length);
    if (sent.type == kCmdFlush) durable_ = bytes_;
    if ((sent.flags & kFlagFua) != 0)
      std::memcpy(durable_.data() + sent.offset, place, sent.length);
    seen.push_back(sent);
    return sent;
  }

  Bytes reply_to(const Sent& sent, bool structured) const {
    if (sent.type != kCmdRead) return structured ? none_chunk(sent.cookie) : simple(sent.cookie);
    if (!structured) return simple(sent.cookie).add(stored(sent.offset, sent.length));
    const uint32_t half = sent.length / 2;
    return data_chunk(sent.cookie, 0, sent.offset + half,
                      stored(sent.offset + half, sent.length - half))
        .add(data_chunk(sent.cookie, kDone, sent.offset, stored(sent.offset, half)));
  }

  // Answers so many requests one by one.
  void serve(Fixture& fixture, int requests, bool structured = false) {
    for (int count = 0; count < requests; ++count)
      fixture.reply(reply_to(take(fixture), structured));
  }

  Bytes stored(uint64_t offset, size_t length) const {
    return Bytes().raw(bytes_.data() + offset, length);
  }
  bool holds(uint64_t offset, const std::byte* bytes, size_t length) const {
    return std::memcmp(bytes_.data() + offset, bytes, length) == 0;
  }

  uint8_t* at(uint64_t offset) { return bytes_.data() + offset; }
  // What a backend has that lost power: only what was flushed, or written with FUA.
  void forget() { bytes_ = durable_; }

  std::vector<Sent> seen;  // every request, in the order of their arrival

 private:
  std::vector<uint8_t> bytes_;
  std::vector<uint8_t> durable_;
};

}  // namespace nbd_test
