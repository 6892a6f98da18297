// Owns: the claims about valid replies: whatever way they are cut or ordered, every request gets
// its own data, once.
// Runs on the test's thread.
// Must not: send what a backend may not send; that is nbd_hostile_test.cc.
#include <algorithm>
#include <functional>

#include "test/nbd_fixture.h"

using namespace nbd_test;

namespace {

constexpr uint32_t kBlock = 4096;

// Three requests and a reply stream that answers them; the reads are tags 0 and 2.
struct Script {
  uint64_t cookies[3];
  Bytes stream;
};

Script begin_script(Fixture& fixture) {
  fixture.submit({fixture.request(Op::kRead, 0, 8192, 1024), fixture.request(Op::kFlush, 1, 0, 0),
                  fixture.request(Op::kRead, 2, 65536, 512)});
  Script script{};
  for (uint64_t& cookie : script.cookies)
    cookie = fixture.next_request().cookie;
  return script;
}

void simple_stream(Script& script) {
  script.stream.add(simple(script.cookies[2])).add(pattern(65536, 512));
  script.stream.add(simple(script.cookies[1]));
  script.stream.add(simple(script.cookies[0])).add(pattern(8192, 1024));
}

// Chunks out of order, a hole, an interleaved reply, both ways to end.
void structured_stream(Script& script) {
  const uint64_t first = script.cookies[0];
  script.stream.add(data_chunk(first, 0, 8192 + 512, pattern(8192 + 512, 256)));
  script.stream.add(none_chunk(script.cookies[1]));
  script.stream.add(data_chunk(script.cookies[2], 0, 65536, pattern(65536, 100)));
  script.stream.add(data_chunk(first, 0, 8192, pattern(8192, 512)));
  script.stream.add(data_chunk(script.cookies[2], kDone, 65536 + 100, pattern(65536 + 100, 412)));
  script.stream.add(data_chunk(first, 0, 8192 + 768, pattern(8192 + 768, 256)));
  script.stream.add(none_chunk(first));
}

void expect_script_answered(Fixture& fixture) {
  CHECK(fixture.result_of(0) == 1024);
  CHECK(fixture.result_of(1) == 0);
  CHECK(fixture.result_of(2) == 512);
  CHECK(fixture.first_wrong_byte(0, 8192, 1024) == 1024);
  CHECK(fixture.first_wrong_byte(2, 65536, 512) == 512);
  CHECK(fixture.events.empty());
}

void cut_everywhere(bool structured, const std::function<void(Script&)>& build) {
  for (size_t cut = 1;; ++cut) {
    Fixture fixture({.structured = structured});
    Script script = begin_script(fixture);
    build(script);
    if (cut >= script.stream.size()) return;
    fixture.reply(script.stream.data(), cut);
    fixture.settle();
    fixture.reply(script.stream.data() + cut, script.stream.size() - cut);
    expect_script_answered(fixture);
  }
}

void byte_by_byte(bool structured, const std::function<void(Script&)>& build) {
  Fixture fixture({.structured = structured});
  Script script = begin_script(fixture);
  build(script);
  for (size_t index = 0; index < script.stream.size(); ++index) {
    fixture.reply(script.stream.data() + index, 1);
    fixture.settle();
  }
  expect_script_answered(fixture);
}

}  // namespace

TEST("simple replies survive every cut") {
  cut_everywhere(false, simple_stream);
}
TEST("structured replies survive every cut") {
  cut_everywhere(true, structured_stream);
}
TEST("simple replies survive byte by byte") {
  byte_by_byte(false, simple_stream);
}
TEST("structured replies survive byte by byte") {
  byte_by_byte(true, structured_stream);
}

TEST("replies match requests in any order") {
  for (const bool structured : {false, true}) {
    Fixture fixture({.structured = structured});
    std::vector<Request> batch;
    for (uint16_t tag = 0; tag < 16; ++tag)
      batch.push_back(fixture.request(Op::kRead, tag, tag * kBlock, kBlock));
    fixture.submit(batch);
    std::vector<Sent> sent;
    for (int index = 0; index < 16; ++index)
      sent.push_back(fixture.next_request());
    for (size_t index = 0; index < 16; ++index) {
      const Sent& one = sent[(index * 7 + 3) % 16];
      const Bytes data = pattern(one.offset, one.length);
      fixture.reply(structured ? data_chunk(one.cookie, kDone, one.offset, data)
                               : simple(one.cookie).add(data));
    }
    for (uint16_t tag = 0; tag < 16; ++tag) {
      CHECK(fixture.result_of(tag) == kBlock);
      CHECK(fixture.first_wrong_byte(tag, tag * kBlock, kBlock) == kBlock);
    }
  }
}

TEST("many small replies arrive in one receive") {
  Fixture fixture;
  std::vector<Request> batch;
  for (uint16_t tag = 0; tag < 32; ++tag)
    batch.push_back(fixture.request(Op::kRead, tag, tag * kBlock, kBlock));
  fixture.submit(batch);
  Bytes stream;
  for (int index = 0; index < 32; ++index) {
    const Sent sent = fixture.next_request();
    stream.add(simple(sent.cookie)).add(pattern(sent.offset, sent.length));
  }
  fixture.reply(stream);
  const size_t receives_before = fixture.transport_log.receives.size();
  CHECK(fixture.turn_until([&] { return fixture.answered() == 32; }));
  // One that brought all 32, one armed for what comes next; a socket may give a large message in
  // two.
  CHECK(fixture.transport_log.receives.size() <= receives_before + 2);
  for (uint16_t tag = 0; tag < 32; ++tag)
    CHECK(fixture.first_wrong_byte(tag, tag * kBlock, kBlock) == kBlock);
}

TEST("large payloads land in their buffers with the next header") {
  constexpr uint32_t kLarge = 256 * 1024;
  for (const bool structured : {false, true}) {
    Fixture fixture({.structured = structured});
    fixture.submit(fixture.request(Op::kRead, 0, 0, kLarge));
    const Sent warm_up = fixture.next_request();
    fixture.reply(structured ? data_chunk(warm_up.cookie, kDone, 0, pattern(0, kLarge))
                             : simple(warm_up.cookie).add(pattern(0, kLarge)));
    CHECK(fixture.result_of(0) == kLarge);

    fixture.transport_log.receives.clear();
    fixture.submit({fixture.request(Op::kRead, 1, kLarge, kLarge),
                    fixture.request(Op::kRead, 2, 2 * kLarge, kLarge)});
    for (int index = 0; index < 2; ++index) {
      const Sent sent = fixture.next_request();
      const Bytes data = pattern(sent.offset, sent.length);
      fixture.reply(structured ? data_chunk(sent.cookie, kDone, sent.offset, data)
                               : simple(sent.cookie).add(data));
    }
    CHECK(fixture.result_of(1) == kLarge);
    CHECK(fixture.result_of(2) == kLarge);
    CHECK(fixture.first_wrong_byte(1, kLarge, kLarge) == kLarge);
    CHECK(fixture.first_wrong_byte(2, 2 * kLarge, kLarge) == kLarge);

    // Not a byte of either payload was received anywhere but where it belongs: the first receive
    // into each buffer begins at its first byte.
    for (uint16_t tag = 1; tag <= 2; ++tag) {
      const auto& receives = fixture.transport_log.receives;
      CHECK(std::any_of(receives.begin(), receives.end(), [&](const std::vector<iovec>& iov) {
        return iov[0].iov_base == fixture.buffer(tag) && iov[0].iov_len == kLarge;
      }));
    }
    // The first payload's receive had room for the header that followed it.
    const auto with_next_header =
        std::find_if(fixture.transport_log.receives.begin(), fixture.transport_log.receives.end(),
                     [](const std::vector<iovec>& iov) { return iov.size() == 2; });
    CHECK(with_next_header != fixture.transport_log.receives.end());
  }
}

TEST("a small read after large ones is right") {
  Fixture fixture;
  for (int round = 0; round < 3; ++round) {
    for (const uint32_t length :
         {uint32_t{512}, uint32_t{131072}, uint32_t{4096}, uint32_t{9000}}) {
      fixture.submit(fixture.request(Op::kRead, 5, 1234 * length, length));
      const Sent sent = fixture.next_request();
      fixture.reply(simple(sent.cookie).add(pattern(sent.offset, length)));
      CHECK(fixture.result_of(5) == static_cast<int32_t>(length));
      CHECK(fixture.first_wrong_byte(5, sent.offset, length) == length);
    }
  }
}

TEST("a hole reads as zeroes") {
  Fixture fixture({.structured = true});
  const Request read = fixture.request(Op::kRead, 0, 0, 8192);
  fixture.fill_buffer(0, 777, 8192);
  fixture.submit(read);
  const uint64_t cookie = fixture.next_request().cookie;
  fixture.reply(hole_chunk(cookie, 0, 4096, 4096));
  fixture.reply(data_chunk(cookie, kDone, 0, pattern(0, 4096)));
  CHECK(fixture.result_of(0) == 8192);
  CHECK(fixture.first_wrong_byte(0, 0, 4096) == 4096);
  CHECK(std::all_of(fixture.buffer(0) + 4096, fixture.buffer(0) + 8192,
                    [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST("a read error does not disturb the stream") {
  for (const bool structured : {false, true}) {
    Fixture fixture({.structured = structured});
    std::vector<Request> batch;
    for (uint16_t tag = 0; tag < 8; ++tag)
      batch.push_back(fixture.request(Op::kRead, tag, tag * kBlock, kBlock));
    fixture.submit(batch);
    for (uint16_t tag = 0; tag < 8; ++tag) {
      const Sent sent = fixture.next_request();
      const Bytes data = pattern(sent.offset, sent.length);
      if (tag % 2 == 0) {
        fixture.reply(structured ? error_chunk(sent.cookie, kDone, 5, "disk on fire")
                                 : simple(sent.cookie, 5));
      } else {
        fixture.reply(structured ? data_chunk(sent.cookie, kDone, sent.offset, data)
                                 : simple(sent.cookie).add(data));
      }
    }
    for (uint16_t tag = 0; tag < 8; ++tag) {
      CHECK(fixture.result_of(tag) == (tag % 2 == 0 ? -EIO : static_cast<int>(kBlock)));
      if (tag % 2 == 1) CHECK(fixture.first_wrong_byte(tag, tag * kBlock, kBlock) == kBlock);
    }
    for (const Fixture::Event& event : fixture.events)
      CHECK(event.kind == "warning");
  }
}

TEST("data before an error chunk do not make a success") {
  Fixture fixture({.structured = true});
  fixture.submit(fixture.request(Op::kRead, 0, 0, 8192));
  const uint64_t cookie = fixture.next_request().cookie;
  fixture.reply(data_chunk(cookie, 0, 0, pattern(0, 4096)));
  fixture.reply(error_offset_chunk(cookie, 0, 5, "bad sector", 4096));
  fixture.reply(data_chunk(cookie, 0, 4096, pattern(4096, 4096)));
  fixture.reply(none_chunk(cookie));
  CHECK(fixture.result_of(0) == -EIO);
}

TEST("a gap in a read is an error") {
  Fixture fixture({.structured = true});
  fixture.submit({fixture.request(Op::kRead, 0, 0, 8192), fixture.request(Op::kRead, 1, 0, 512)});
  const uint64_t cookie = fixture.next_request().cookie;
  const uint64_t other = fixture.next_request().cookie;
  fixture.reply(data_chunk(cookie, 0, 0, pattern(0, 4096)));
  fixture.reply(data_chunk(cookie, kDone, 4097, pattern(4097, 4095)));
  CHECK(fixture.result_of(0) == -EIO);
  fixture.reply(none_chunk(other));
  CHECK(fixture.result_of(1) == -EIO);
  CHECK(fixture.events.size() == 2);
  CHECK(fixture.events[0].kind == "warning");
}

TEST("errors have the errno of the specification") {
  const std::pair<uint32_t, int> table[] = {
      {1, EPERM},   {5, EIO},     {12, ENOMEM},     {22, EINVAL},
      {28, ENOSPC}, {75, EINVAL}, {95, EOPNOTSUPP}, {4242, EINVAL},
  };
  for (const bool structured : {false, true}) {
    Fixture fixture({.structured = structured});
    for (const auto& [error, expected] : table) {
      fixture.submit(fixture.request(Op::kWrite, 3, 0, 512));
      const uint64_t cookie = fixture.next_request().cookie;
      fixture.next_bytes(512);
      fixture.reply(structured ? error_chunk(cookie, kDone, error, "") : simple(cookie, error));
      CHECK(fixture.result_of(3) == -expected);
    }
    CHECK(fixture.events.empty());
  }
}

TEST("an error text is reported once and clean") {
  Fixture fixture({.structured = true});
  for (int round = 0; round < 20; ++round) {
    fixture.submit(fixture.request(Op::kFlush, 0, 0, 0));
    const uint64_t cookie = fixture.next_request().cookie;
    std::string text = "no\nspace\x1b[31m left ";
    text.append(4000, 'x');
    fixture.reply(error_chunk(cookie, kDone, 28, text));
    CHECK(fixture.result_of(0) == -ENOSPC);
  }
  CHECK(!fixture.events.empty() && fixture.events.size() <= 4);
  const std::string& text = fixture.events[0].text;
  CHECK(text.find("no?space?[31m left") != std::string::npos);
  CHECK(text.size() <= 512);
}

TEST("unknown reply flags and error types are taken") {
  Fixture fixture({.structured = true});
  fixture.submit(fixture.request(Op::kRead, 0, 0, 512));
  uint64_t cookie = fixture.next_request().cookie;
  fixture.reply(data_chunk(cookie, 0x8000 | kDone, 0, pattern(0, 512)));
  CHECK(fixture.result_of(0) == 512);

  fixture.submit(fixture.request(Op::kRead, 0, 0, 512));
  cookie = fixture.next_request().cookie;
  fixture.reply(chunk(cookie, kDone, 32768 + 77, Bytes().u32(28).u16(3).text("abc").u64(99)));
  CHECK(fixture.result_of(0) == -ENOSPC);
  for (const Fixture::Event& event : fixture.events)
    CHECK(event.kind == "warning");
}

TEST("simple replies to other requests are valid among structured ones") {
  Fixture fixture({.structured = true});
  fixture.submit({fixture.request(Op::kFlush, 0, 0, 0), fixture.request(Op::kDiscard, 1, 0, 512)});
  fixture.reply(simple(fixture.next_request().cookie));
  fixture.reply(simple(fixture.next_request().cookie, 95));
  CHECK(fixture.result_of(0) == 0);
  CHECK(fixture.result_of(1) == -EOPNOTSUPP);
}

TEST_MAIN()
