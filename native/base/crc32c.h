// Owns: CRC-32C (Castagnoli; RFC 3720, appendix B.4), the checksum of cached bytes. Pure, any
// thread.
// Must not: differ between processors: what one has written another one verifies.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unbd {

// Of length bytes; before: the checksum of what stands in front of them, 0 when nothing does.
uint32_t crc32c(const void* bytes, size_t length, uint32_t before = 0);

// The same without the processor's instruction for it.
uint32_t crc32c_portable(const void* bytes, size_t length, uint32_t before = 0);

}  // namespace unbd
