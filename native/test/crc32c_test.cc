// Owns: the claims about crc32c(): known values, and that instruction and table are one.
// Runs on the test's thread.
// Must not: need an instruction that a processor may lack.
#include "base/crc32c.h"

#include <cstring>
#include <ctime>
#include <numeric>
#include <random>
#include <vector>

#include "test/check.h"

using unbd::crc32c;
using unbd::crc32c_portable;

namespace {

bool is_sum(const std::vector<uint8_t>& bytes, uint32_t sum) {
  return crc32c(bytes.data(), bytes.size()) == sum &&
         crc32c_portable(bytes.data(), bytes.size()) == sum;
}

}  // namespace

TEST("the values of RFC 3720, appendix B.4, and the usual one of nine digits") {
  std::vector<uint8_t> counting(32);
  std::iota(counting.begin(), counting.end(), uint8_t{0});
  CHECK(is_sum(std::vector<uint8_t>(32, 0), 0x8a9136aa));
  CHECK(is_sum(std::vector<uint8_t>(32, 0xff), 0x62a8ab43));
  CHECK(is_sum(counting, 0x46dd794e));
  CHECK(is_sum({counting.rbegin(), counting.rend()}, 0x113fdb5c));
  const char digits[] = "123456789";
  CHECK(crc32c(digits, 9) == 0xe3069283 && crc32c_portable(digits, 9) == 0xe3069283);
  CHECK(crc32c(digits, 0) == 0 && crc32c_portable(digits, 0) == 0);
  CHECK(crc32c(digits, 0, 0x12345678) == 0x12345678);
}

TEST("instruction and table agree, and what is continued is as what is summed at once") {
  const unsigned seed = static_cast<unsigned>(std::time(nullptr));
  std::printf("# seed %u\n", seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    const size_t length = random() % (round % 10 == 0 ? 20000 : 100);
    const size_t start = random() % 16;
    // On the heap and of this length exactly: a byte too many is the sanitizer's.
    std::vector<uint8_t> memory(start + length);
    for (uint8_t& byte : memory)
      byte = static_cast<uint8_t>(random());
    const uint8_t* const bytes = memory.data() + start;
    const uint32_t sum = crc32c(bytes, length);
    CHECK(sum == crc32c_portable(bytes, length));
    const size_t cut = random() % (length + 1);
    CHECK(sum == crc32c(bytes + cut, length - cut, crc32c(bytes, cut)));
    CHECK(sum == crc32c_portable(bytes + cut, length - cut, crc32c(bytes, cut)));
  }
}

TEST("every single bit counts") {
  std::vector<uint8_t> bytes(4096, 0x5a);
  const uint32_t sum = crc32c(bytes.data(), bytes.size());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const auto flipped = static_cast<uint8_t>(1 << bit % 8);
    bytes[bit / 8] ^= flipped;
    CHECK(crc32c(bytes.data(), bytes.size()) != sum);
    bytes[bit / 8] ^= flipped;
  }
}

TEST_MAIN()
