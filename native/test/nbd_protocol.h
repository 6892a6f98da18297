// Owns: the tests' own copy of NBD's numbers and layouts, taken from the specification, not from
// nbd/wire.h: a wrong constant there must fail here. Pure, any thread.
// Must not: include anything of the core's.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace nbd_test {

constexpr uint16_t kCmdRead = 0;
constexpr uint16_t kCmdWrite = 1;
constexpr uint16_t kCmdDisc = 2;
constexpr uint16_t kCmdFlush = 3;
constexpr uint16_t kCmdTrim = 4;
constexpr uint16_t kCmdWriteZeroes = 6;
constexpr uint16_t kFlagFua = 1;
constexpr uint16_t kFlagNoHole = 2;
constexpr uint16_t kDone = 1;
constexpr uint16_t kTypeNone = 0;
constexpr uint16_t kTypeData = 1;
constexpr uint16_t kTypeHole = 2;
constexpr uint16_t kTypeError = 32769;
constexpr uint16_t kTypeErrorOffset = 32770;
constexpr uint32_t kSimpleMagic = 0x67446698;
constexpr uint32_t kStructuredMagic = 0x668e33ef;
constexpr uint32_t kRequestMagic = 0x25609513;
constexpr size_t kRequestBytes = 28;

// Bytes in network order, built from left to right.
class Bytes {
 public:
  Bytes& u16(uint64_t value) { return big_endian(value, 2); }
  Bytes& u32(uint64_t value) { return big_endian(value, 4); }
  Bytes& u64(uint64_t value) { return big_endian(value, 8); }
  Bytes& text(std::string_view value) { return raw(value.data(), value.size()); }
  Bytes& raw(const void* bytes, size_t length) {
    const uint8_t* first = static_cast<const uint8_t*>(bytes);
    data_.insert(data_.end(), first, first + length);
    return *this;
  }
  Bytes& add(const Bytes& other) { return raw(other.data(), other.size()); }
  const uint8_t* data() const { return data_.data(); }
  uint8_t* data() { return data_.data(); }
  size_t size() const { return data_.size(); }
  void resize(size_t size) { data_.resize(size); }

 private:
  Bytes& big_endian(uint64_t value, int width) {
    for (int shift = 8 * (width - 1); shift >= 0; shift -= 8)
      data_.push_back(static_cast<uint8_t>(value >> shift));
    return *this;
  }

  std::vector<uint8_t> data_;
};

inline uint64_t big_endian_at(const uint8_t* bytes, int width) {
  uint64_t value = 0;
  for (int index = 0; index < width; ++index)
    value = value << 8 | bytes[index];
  return value;
}

inline Bytes simple(uint64_t cookie, uint32_t error = 0) {
  return Bytes().u32(kSimpleMagic).u32(error).u64(cookie);
}
inline Bytes chunk(uint64_t cookie, uint16_t flags, uint16_t type, const Bytes& payload) {
  return Bytes()
      .u32(kStructuredMagic)
      .u16(flags)
      .u16(type)
      .u64(cookie)
      .u32(payload.size())
      .add(payload);
}
inline Bytes data_chunk(uint64_t cookie, uint16_t flags, uint64_t offset, const Bytes& data) {
  return chunk(cookie, flags, kTypeData, Bytes().u64(offset).add(data));
}
inline Bytes hole_chunk(uint64_t cookie, uint16_t flags, uint64_t offset, uint32_t size) {
  return chunk(cookie, flags, kTypeHole, Bytes().u64(offset).u32(size));
}
inline Bytes none_chunk(uint64_t cookie) {
  return chunk(cookie, kDone, kTypeNone, {});
}
inline Bytes error_chunk(uint64_t cookie, uint16_t flags, uint32_t error, std::string_view text) {
  return chunk(cookie, flags, kTypeError, Bytes().u32(error).u16(text.size()).text(text));
}
inline Bytes error_offset_chunk(uint64_t cookie, uint16_t flags, uint32_t error,
                                std::string_view text, uint64_t offset) {
  return chunk(cookie, flags, kTypeErrorOffset,
               Bytes().u32(error).u16(text.size()).text(text).u64(offset));
}

// A request as the backend reads it.
struct Sent {
  uint32_t magic;
  uint16_t flags;
  uint16_t type;
  uint64_t cookie;
  uint64_t offset;
  uint32_t length;
};
inline Sent parse_request(const uint8_t* bytes) {
  return {.magic = static_cast<uint32_t>(big_endian_at(bytes, 4)),
          .flags = static_cast<uint16_t>(big_endian_at(bytes + 4, 2)),
          .type = static_cast<uint16_t>(big_endian_at(bytes + 6, 2)),
          .cookie = big_endian_at(bytes + 8, 8),
          .offset = big_endian_at(bytes + 16, 8),
          .length = static_cast<uint32_t>(big_endian_at(bytes + 24, 4))};
}

// What a read of an image must return, known from the offset alone, so that wrong offsets show.
inline uint8_t pattern_at(uint64_t offset) {
  const uint64_t mixed = (offset / 8 + 1) * 0x9e3779b97f4a7c15ULL;
  return static_cast<uint8_t>(mixed >> (8 * (offset % 8)));
}
inline Bytes pattern(uint64_t offset, size_t length) {
  Bytes bytes;
  bytes.resize(length);
  for (size_t index = 0; index < length; ++index)
    bytes.data()[index] = pattern_at(offset + index);
  return bytes;
}

}  // namespace nbd_test
