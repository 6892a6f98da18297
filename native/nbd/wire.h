// Owns: the bytes of the NBD transmission phase: constants, packed structs in the order of the
// specification, the cookie and the table from NBD errors to errno. Pure values, any thread.
// Must not: hold the handshake's constants; that phase belongs to src/protocols/nbd.
// Conversion from and to network order happens only where a struct is filled or parsed.
#pragma once

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace unbd::nbd {

static_assert(std::endian::native == std::endian::little);
constexpr uint16_t swap16(uint16_t value) {
  return __builtin_bswap16(value);
}
constexpr uint32_t swap32(uint32_t value) {
  return __builtin_bswap32(value);
}
constexpr uint64_t swap64(uint64_t value) {
  return __builtin_bswap64(value);
}

constexpr uint32_t kRequestMagic = 0x25609513;          // NBD_REQUEST_MAGIC
constexpr uint32_t kSimpleReplyMagic = 0x67446698;      // NBD_SIMPLE_REPLY_MAGIC
constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;  // NBD_STRUCTURED_REPLY_MAGIC

// NBD_CMD_*
enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisc = 2,
  kFlush = 3,
  kTrim = 4,
  kWriteZeroes = 6,
};

constexpr uint16_t kCmdFlagFua = 1 << 0;     // NBD_CMD_FLAG_FUA
constexpr uint16_t kCmdFlagNoHole = 1 << 1;  // NBD_CMD_FLAG_NO_HOLE, WRITE_ZEROES only

constexpr uint16_t kReplyFlagDone = 1 << 0;  // NBD_REPLY_FLAG_DONE; unknown flags are ignored

// NBD_REPLY_TYPE_*; the top bit marks errors, known or not.
constexpr uint16_t kReplyNone = 0;
constexpr uint16_t kReplyOffsetData = 1;
constexpr uint16_t kReplyOffsetHole = 2;
constexpr uint16_t kReplyErrorBit = 1 << 15;
constexpr uint16_t kReplyError = kReplyErrorBit | 1;
constexpr uint16_t kReplyErrorOffset = kReplyErrorBit | 2;

// NBD_E*
constexpr uint32_t kErrorPerm = 1;
constexpr uint32_t kErrorIo = 5;
constexpr uint32_t kErrorNomem = 12;
constexpr uint32_t kErrorInval = 22;
constexpr uint32_t kErrorNospc = 28;
constexpr uint32_t kErrorOverflow = 75;
constexpr uint32_t kErrorNotsup = 95;
constexpr uint32_t kErrorShutdown = 108;

struct [[gnu::packed]] RequestHeader {
  uint32_t magic;   // kRequestMagic
  uint16_t flags;   // kCmdFlag*
  uint16_t type;    // Command
  uint64_t cookie;  // make_cookie()
  uint64_t offset;
  uint32_t length;
};
static_assert(sizeof(RequestHeader) == 28);
static_assert(offsetof(RequestHeader, cookie) == 8 && offsetof(RequestHeader, length) == 24);

struct [[gnu::packed]] SimpleReply {
  uint32_t magic;  // kSimpleReplyMagic
  uint32_t error;  // kError*, 0: success
  uint64_t cookie;
};  // READ without an error: its whole payload follows
static_assert(sizeof(SimpleReply) == 16 && offsetof(SimpleReply, cookie) == 8);

struct [[gnu::packed]] StructuredReply {
  uint32_t magic;  // kStructuredReplyMagic
  uint16_t flags;  // kReplyFlag*
  uint16_t type;   // kReply*
  uint64_t cookie;
  uint32_t length;  // of the payload that follows
};
static_assert(sizeof(StructuredReply) == 20 && offsetof(StructuredReply, cookie) == 8);
static_assert(offsetof(StructuredReply, length) == 16);

struct [[gnu::packed]] OffsetData {
  uint64_t offset;
};  // then the data, at least one byte
static_assert(sizeof(OffsetData) == 8);

struct [[gnu::packed]] OffsetHole {
  uint64_t offset;
  uint32_t size;  // not 0
};
static_assert(sizeof(OffsetHole) == 12);

struct [[gnu::packed]] ErrorHead {
  uint32_t error;  // kError*, not 0
  uint16_t message_length;
};  // then the message; then, in kReplyErrorOffset, a 64-bit offset
static_assert(sizeof(ErrorHead) == 6);

constexpr uint32_t kStringBytesMax = 4096;  // the specification's limit on every string
constexpr uint32_t kErrorChunkBytesMax = sizeof(ErrorHead) + kStringBytesMax + sizeof(uint64_t);

// The cookie says which part of which use of which tag on which connection is meant, so that a late
// reply never matches another request.
constexpr uint64_t make_cookie(uint16_t epoch, uint16_t generation, uint16_t tag, uint16_t part) {
  return uint64_t{epoch} << 48 | uint64_t{generation} << 32 | uint64_t{tag} << 16 | part;
}
constexpr uint16_t cookie_tag(uint64_t cookie) {
  return static_cast<uint16_t>(cookie >> 16);
}
constexpr uint16_t cookie_part(uint64_t cookie) {
  return static_cast<uint16_t>(cookie);
}
// No request has this one: its tag is beyond every table.
constexpr uint64_t kNoCookie = ~uint64_t{0};

// The negative errno of an NBD error. kErrorShutdown is a connection loss and never gets here.
constexpr int errno_from_nbd(uint32_t error) {
  switch (error) {
    case kErrorPerm:
      return -EPERM;
    case kErrorIo:
      return -EIO;
    case kErrorNomem:
      return -ENOMEM;
    case kErrorNospc:
      return -ENOSPC;
    case kErrorNotsup:
      return -EOPNOTSUPP;
    default:  // also kErrorInval and kErrorOverflow
      return -EINVAL;
  }
}

// The struct T at bytes, which need not be aligned.
template <typename T>
T parse(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

}  // namespace unbd::nbd
