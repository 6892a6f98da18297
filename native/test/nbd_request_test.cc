// Owns: the claims about what leaves for the backend: the bytes of each request, parts, FUA, and
// how few calls it takes.
// Runs on the test's thread.
// Must not: judge replies; that is nbd_reply_test.cc.
#include <algorithm>

#include "test/nbd_fixture.h"

using namespace nbd_test;

namespace {

bool is(const Sent& sent, uint16_t type, uint16_t flags, uint64_t offset, uint32_t length) {
  return sent.type == type && sent.flags == flags && sent.offset == offset && sent.length == length;
}

}  // namespace

TEST("every operation has the bytes of the specification") {
  Fixture fixture;
  std::vector<Request> batch = {
      fixture.request(Op::kRead, 0, 0x123456789a00, 4096),
      fixture.request(Op::kWrite, 1, 512, 1024),
      fixture.request(Op::kFlush, 2, 0, 0),
      fixture.request(Op::kDiscard, 3, 1 << 20, 65536),
      fixture.request(Op::kWriteZeroes, 4, 1 << 21, 131072),
      fixture.request(Op::kWriteZeroes, 5, 1 << 22, 512),
      fixture.request(Op::kWrite, 6, 0, 512),
      fixture.request(Op::kDiscard, 7, 0, 512),
  };
  batch[5].no_unmap = true;
  batch[5].fua = true;
  batch[6].fua = true;
  batch[7].fua = true;
  fixture.fill_buffer(1, 512, 1024);
  fixture.fill_buffer(6, 0, 512);
  fixture.submit(batch);
  std::vector<uint64_t> cookies;
  const auto next_is = [&](uint16_t type, uint16_t flags, uint64_t offset, uint32_t length) {
    const Sent sent = fixture.next_request();
    cookies.push_back(sent.cookie);
    if (!is(sent, type, flags, offset, length)) return false;
    if (type != kCmdWrite) return true;
    const Bytes payload = fixture.next_bytes(length);
    return std::memcmp(payload.data(), pattern(offset, length).data(), length) == 0;
  };
  CHECK(next_is(kCmdRead, 0, 0x123456789a00, 4096));
  CHECK(next_is(kCmdWrite, 0, 512, 1024));
  CHECK(next_is(kCmdFlush, 0, 0, 0));
  CHECK(next_is(kCmdTrim, 0, 1 << 20, 65536));
  CHECK(next_is(kCmdWriteZeroes, 0, 1 << 21, 131072));
  CHECK(next_is(kCmdWriteZeroes, kFlagNoHole | kFlagFua, 1 << 22, 512));
  CHECK(next_is(kCmdWrite, kFlagFua, 0, 512));
  CHECK(next_is(kCmdTrim, kFlagFua, 0, 512));
  CHECK(!fixture.backend_has_bytes());
  for (uint64_t cookie : cookies)
    CHECK(std::count(cookies.begin(), cookies.end(), cookie) == 1);
  // All of it left in one call.
  CHECK(fixture.transport_log.sends == 1);
  for (size_t index = 1; index < cookies.size(); ++index)
    fixture.reply(simple(cookies[index]));
  CHECK(fixture.result_of(1) == 1024);
  for (int tag : {2, 3, 4, 5, 7})
    CHECK(fixture.result_of(tag) == 0);
  CHECK(fixture.result_of(6) == 512);
}

TEST("a tag used again has another cookie") {
  Fixture fixture;
  uint64_t previous = 0;
  for (int round = 0; round < 3; ++round) {
    fixture.submit(fixture.request(Op::kFlush, 9, 0, 0));
    const uint64_t cookie = fixture.next_request().cookie;
    CHECK(cookie != previous);
    previous = cookie;
    fixture.reply(simple(cookie));
    CHECK(fixture.result_of(9) == 0);
  }
}

TEST("what the backend cannot do is answered here") {
  Fixture fixture({.can_flush = false, .can_trim = false, .can_write_zeroes = false});
  fixture.submit({fixture.request(Op::kFlush, 0, 0, 0), fixture.request(Op::kDiscard, 1, 0, 512),
                  fixture.request(Op::kWriteZeroes, 2, 0, 512)});
  CHECK(fixture.result_of(0) == 0);
  CHECK(fixture.result_of(1) == -EOPNOTSUPP);
  CHECK(fixture.result_of(2) == -EOPNOTSUPP);
  CHECK(!fixture.backend_has_bytes());
}

TEST("a read-only export takes no writes") {
  Fixture fixture({.read_only = true});
  fixture.submit({fixture.request(Op::kWrite, 0, 0, 512), fixture.request(Op::kDiscard, 1, 0, 512),
                  fixture.request(Op::kWriteZeroes, 2, 0, 512)});
  for (int tag : {0, 1, 2})
    CHECK(fixture.result_of(tag) == -EROFS);
  CHECK(!fixture.backend_has_bytes());
}

TEST("a read is split at the maximum and complete when all its parts are") {
  for (const bool structured : {false, true}) {
    Fixture fixture(
        {.structured = structured, .maximum_block_bytes = 5000, .minimum_block_bytes = 512});
    fixture.submit(fixture.request(Op::kRead, 0, 1024, 12288));
    std::vector<Sent> parts;
    for (int index = 0; index < 3; ++index)
      parts.push_back(fixture.next_request());
    CHECK(is(parts[0], kCmdRead, 0, 1024, 4608));
    CHECK(is(parts[1], kCmdRead, 0, 1024 + 4608, 4608));
    CHECK(is(parts[2], kCmdRead, 0, 1024 + 9216, 3072));
    CHECK(!fixture.backend_has_bytes());
    for (size_t index : {1, 2, 0}) {
      const Sent& part = parts[index];
      const Bytes data = pattern(part.offset, part.length);
      fixture.settle();
      CHECK(!fixture.is_answered(0));
      fixture.reply(structured ? data_chunk(part.cookie, kDone, part.offset, data)
                               : simple(part.cookie).add(data));
    }
    CHECK(fixture.result_of(0) == 12288);
    CHECK(fixture.first_wrong_byte(0, 1024, 12288) == 12288);
  }
}

TEST("one failed part fails a write, after all its parts were answered") {
  Fixture fixture({.maximum_block_bytes = 4096});
  fixture.submit(fixture.request(Op::kWrite, 0, 0, 3 * 4096));
  std::vector<uint64_t> cookies;
  for (int index = 0; index < 3; ++index) {
    cookies.push_back(fixture.next_request().cookie);
    fixture.next_bytes(4096);
  }
  fixture.reply(simple(cookies[2], 28));
  fixture.reply(simple(cookies[0], 5));
  fixture.settle();
  CHECK(!fixture.is_answered(0));
  fixture.reply(simple(cookies[1]));
  CHECK(fixture.result_of(0) == -ENOSPC);
}

TEST("trim and write zeroes are not bound by the maximum payload, but by 32 bits") {
  constexpr uint64_t kLength = (uint64_t{1} << 32) - 4096;
  Fixture fixture({.maximum_block_bytes = 65536, .minimum_block_bytes = 65536});
  fixture.submit(fixture.request(Op::kDiscard, 0, 0, kLength));
  const Sent first = fixture.next_request();
  const Sent second = fixture.next_request();
  CHECK(is(first, kCmdTrim, 0, 0, 0xffff0000));
  CHECK(is(second, kCmdTrim, 0, 0xffff0000, 65536 - 4096));
  fixture.reply(simple(first.cookie));
  fixture.reply(simple(second.cookie));
  CHECK(fixture.result_of(0) == 0);
}

TEST("FUA without the backend's help is a write, then a flush, then the completion") {
  Fixture fixture({.can_fua = false, .maximum_block_bytes = 4096});
  Request write = fixture.request(Op::kWrite, 0, 0, 8192);
  write.fua = true;
  fixture.submit(write);
  std::vector<uint64_t> cookies;
  for (int index = 0; index < 2; ++index) {
    const Sent sent = fixture.next_request();
    CHECK(sent.type == kCmdWrite && sent.flags == 0);
    cookies.push_back(sent.cookie);
    fixture.next_bytes(4096);
  }
  fixture.reply(simple(cookies[0]));
  fixture.settle();
  CHECK(!fixture.backend_has_bytes());
  fixture.reply(simple(cookies[1]));
  const Sent flush = fixture.next_request();
  CHECK(is(flush, kCmdFlush, 0, 0, 0));
  CHECK(!fixture.is_answered(0));
  fixture.reply(simple(flush.cookie));
  CHECK(fixture.result_of(0) == 8192);
}

TEST("an emulated FUA fails when its write or its flush does") {
  Fixture fixture({.can_fua = false});
  for (const bool flush_fails : {false, true}) {
    Request write = fixture.request(Op::kWrite, 0, 0, 512);
    write.fua = true;
    fixture.submit(write);
    const uint64_t cookie = fixture.next_request().cookie;
    fixture.next_bytes(512);
    fixture.reply(simple(cookie, flush_fails ? 0 : 28));
    if (flush_fails) fixture.reply(simple(fixture.next_request().cookie, 5));
    CHECK(fixture.result_of(0) == (flush_fails ? -EIO : -ENOSPC));
    CHECK(!fixture.backend_has_bytes());
  }
}

TEST("many requests leave in one call, reads as one piece") {
  Fixture fixture;
  std::vector<Request> batch;
  for (uint16_t tag = 0; tag < 64; ++tag)
    batch.push_back(fixture.request(tag % 4 == 3 ? Op::kWrite : Op::kRead, tag, tag * 512, 512));
  fixture.submit(batch);
  CHECK(fixture.transport_log.sends == 1);
  for (uint16_t tag = 0; tag < 64; ++tag) {
    const Sent sent = fixture.next_request();
    CHECK(sent.offset == tag * 512U);
    if (sent.type == kCmdWrite) fixture.next_bytes(512);
  }
}

TEST("partial sends keep the stream whole and in order") {
  for (const size_t send_bytes_max : {size_t{1}, size_t{27}, size_t{29}, size_t{777}, SIZE_MAX}) {
    Fixture fixture({.send_buffer_bytes = 1});
    fixture.transport_log.send_bytes_max = send_bytes_max;
    const uint32_t length = send_bytes_max == 1 ? 512 : 65536;
    for (int wave = 0; wave < 3; ++wave) {
      std::vector<Request> batch;
      for (uint16_t tag = 0; tag < 8; ++tag) {
        batch.push_back(fixture.request(Op::kWrite, tag, tag * length, length));
        fixture.fill_buffer(tag, tag * length, length);
      }
      // In two batches, so that the second is staged behind the unsent rest of the first.
      fixture.submit(std::vector<Request>(batch.begin(), batch.begin() + 5));
      fixture.submit(std::vector<Request>(batch.begin() + 5, batch.end()));
      for (uint16_t tag = 0; tag < 8; ++tag) {
        const Sent sent = fixture.next_request();
        CHECK(is(sent, kCmdWrite, 0, tag * length, length));
        const Bytes payload = fixture.next_bytes(length);
        CHECK(std::memcmp(payload.data(), pattern(tag * length, length).data(), length) == 0);
        fixture.reply(simple(sent.cookie));
      }
      for (uint16_t tag = 0; tag < 8; ++tag)
        CHECK(fixture.result_of(tag) == static_cast<int32_t>(length));
    }
    CHECK(fixture.transport_log.send_waits > 0);
    CHECK(fixture.events.empty());
  }
}

TEST_MAIN()
