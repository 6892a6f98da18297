// Owns: the implementation of crc32c() (see crc32c.h): by the processor's instruction where it has
// one, else by a table.
// Runs on: any thread.
// Must not: read beyond the bytes.
#include "base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace unbd {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit)
      value = value >> 1 ^ ((value & 1) != 0 ? kPolynomial : 0);
    table[byte] = value;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = make_table();

#if defined(__x86_64__)
#define UNBD_CRC_TARGET __attribute__((target("sse4.2")))
bool has_instruction() {
  return __builtin_cpu_supports("sse4.2") != 0;
}
UNBD_CRC_TARGET uint32_t add8(uint32_t crc, uint64_t word) {
  return static_cast<uint32_t>(_mm_crc32_u64(crc, word));
}
UNBD_CRC_TARGET uint32_t add1(uint32_t crc, uint8_t byte) {
  return _mm_crc32_u8(crc, byte);
}
#elif defined(__aarch64__)
#define UNBD_CRC_TARGET __attribute__((target("+crc")))
bool has_instruction() {
  return (::getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
UNBD_CRC_TARGET uint32_t add8(uint32_t crc, uint64_t word) {
  return __crc32cd(crc, word);
}
UNBD_CRC_TARGET uint32_t add1(uint32_t crc, uint8_t byte) {
  return __crc32cb(crc, byte);
}
#endif

UNBD_CRC_TARGET uint32_t by_instruction(const void* bytes, size_t length, uint32_t before) {
  const auto* at = static_cast<const uint8_t*>(bytes);
  uint32_t crc = ~before;
  for (; length >= sizeof(uint64_t); length -= sizeof(uint64_t), at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, at, sizeof(word));
    crc = add8(crc, word);
  }
  for (; length > 0; --length)
    crc = add1(crc, *at++);
  return ~crc;
}

}  // namespace

uint32_t crc32c_portable(const void* bytes, size_t length, uint32_t before) {
  const auto* at = static_cast<const uint8_t*>(bytes);
  uint32_t crc = ~before;
  for (; length > 0; --length)
    crc = crc >> 8 ^ kTable[(crc ^ *at++) & 0xff];
  return ~crc;
}

uint32_t crc32c(const void* bytes, size_t length, uint32_t before) {
  static const bool kHasInstruction = has_instruction();
  return kHasInstruction ? by_instruction(bytes, length, before)
                         : crc32c_portable(bytes, length, before);
}

}  // namespace unbd
