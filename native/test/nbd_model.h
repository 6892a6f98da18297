// Owns: a slow, plain reading of a whole reply stream, by which the fuzz test judges the adapter.
// Pure, any thread.
// Must not: share a line with the core; it has its own numbers, and keeps a flag for every byte.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "test/nbd_protocol.h"

namespace nbd_test {

struct Expected {
  Sent sent{};
  std::vector<uint8_t> data;
  std::vector<bool> covered;
  uint32_t chunks = 0;
  uint32_t error = 0;
  bool failed = false;
  bool answered = false;
};

class Model {
 public:
  explicit Model(bool structured) : structured_(structured) {}

  void expect(const Sent& sent) {
    Expected expected{.sent = sent};
    if (sent.type == kCmdRead) {
      expected.data.resize(sent.length);
      expected.covered.resize(sent.length);
    }
    requests.push_back(expected);
  }

  // False: the backend broke the protocol or shuts down. What was answered before stays answered.
  bool read(const Bytes& stream) {
    bytes_ = stream.data();
    left_ = stream.size();
    while (left_ >= 16) {
      const uint64_t magic = big_endian_at(bytes_, 4);
      if (magic == kSimpleMagic) {
        if (!read_simple()) return false;
      } else if (magic == kStructuredMagic && structured_) {
        if (left_ < 20) return true;
        if (!read_chunk()) return false;
      } else {
        return false;
      }
      if (cut_) return true;
    }
    return true;
  }

  std::vector<Expected> requests;

 private:
  Expected* find(uint64_t cookie) {
    for (Expected& request : requests)
      if (request.sent.cookie == cookie && !request.answered) return &request;
    return nullptr;
  }
  const uint8_t* take(size_t length) {
    if (left_ < length) {
      cut_ = true;
      return nullptr;
    }
    const uint8_t* taken = bytes_;
    bytes_ += length;
    left_ -= length;
    return taken;
  }

  bool read_simple() {
    const uint8_t* head = take(16);
    const uint32_t error = static_cast<uint32_t>(big_endian_at(head + 4, 4));
    Expected* request = find(big_endian_at(head + 8, 8));
    if (request == nullptr) return false;
    const bool is_read = request->sent.type == kCmdRead;
    if (structured_ && (is_read || request->chunks > 0)) return false;
    if (error == 108) return false;
    if (error == 0 && is_read) {
      const uint8_t* data = take(request->sent.length);
      if (data == nullptr) return true;
      std::memcpy(request->data.data(), data, request->sent.length);
    }
    request->answered = true;
    request->error = error;
    request->failed = error != 0;
    return true;
  }

  bool read_chunk() {
    const uint8_t* head = take(20);
    const bool done = (big_endian_at(head + 4, 2) & kDone) != 0;
    const uint64_t type = big_endian_at(head + 6, 2);
    const uint32_t length = static_cast<uint32_t>(big_endian_at(head + 16, 4));
    Expected* request = find(big_endian_at(head + 8, 8));
    if (request == nullptr || ++request->chunks > request->sent.length / 512 + 16) return false;
    const bool is_read = request->sent.type == kCmdRead;
    bool valid = false;
    if (type == kTypeNone) {
      valid = done && length == 0;
    } else if (type == kTypeData && is_read) {
      valid = read_data(*request, length);
    } else if (type == kTypeHole && is_read) {
      valid = read_hole(*request, length);
    } else if (type >= 32768) {
      valid = read_error(*request, type, length);
    }
    if (!valid || cut_ || !done) return valid;
    request->answered = true;
    for (const bool byte : request->covered) {
      if (!byte && !request->failed) {
        request->failed = true;
        request->error = 5;
      }
    }
    return true;
  }

  // Marks bytes of a read; false when they are not its own, or there already.
  static bool cover(Expected& request, uint64_t offset, uint64_t length) {
    for (uint64_t index = 0; index < length; ++index) {
      const uint64_t at = offset + index - request.sent.offset;
      if (at >= request.sent.length || request.covered[at]) return false;
      request.covered[at] = true;
    }
    return true;
  }

  bool read_data(Expected& request, uint32_t length) {
    if (length < 9 || length - 8 > request.sent.length) return false;
    const uint8_t* head = take(8);
    if (head == nullptr) return true;
    const uint64_t offset = big_endian_at(head, 8);
    if (!cover(request, offset, length - 8)) return false;
    const uint8_t* data = take(length - 8);
    if (data != nullptr)
      std::memcpy(request.data.data() + (offset - request.sent.offset), data, length - 8);
    return true;
  }

  bool read_hole(Expected& request, uint32_t length) {
    if (length != 12) return false;
    const uint8_t* head = take(12);
    if (head == nullptr) return true;
    const uint64_t offset = big_endian_at(head, 8);
    const uint64_t size = big_endian_at(head + 8, 4);
    if (size == 0 || !cover(request, offset, size)) return false;
    std::memset(request.data.data() + (offset - request.sent.offset), 0, size);
    return true;
  }

  bool read_error(Expected& request, uint64_t type, uint32_t length) {
    if (length < 6 || length > 6 + 4096 + 8) return false;
    const uint8_t* head = take(6);
    if (head == nullptr) return true;
    const uint32_t error = static_cast<uint32_t>(big_endian_at(head, 4));
    const uint64_t text = big_endian_at(head + 4, 2);
    const uint32_t tail = type == kTypeErrorOffset ? 8 : 0;
    if (error == 0 || text > 4096 || text > length - 6) return false;
    if (type <= kTypeErrorOffset && type >= kTypeError && text + tail != length - 6) return false;
    if (error == 108) return false;
    if (!request.failed) request.error = error;
    request.failed = true;
    const uint8_t* rest = take(length - 6);
    if (rest == nullptr) {
      // All of the text may be there and only the offset not.
      return true;
    }
    if (type == kTypeErrorOffset) {
      const uint64_t at = big_endian_at(rest + text, 8) - request.sent.offset;
      if (at >= request.sent.length) return false;
    }
    return true;
  }

  const bool structured_;
  const uint8_t* bytes_ = nullptr;
  size_t left_ = 0;
  bool cut_ = false;
};

}  // namespace nbd_test
