// Owns: the claims about backends that break the protocol in the transmission phase: each breach
// ends the connection with one message that blames the backend, every request in flight gets EIO,
// and nothing wrong is read.
// Runs on the test's thread.
// Must not: hold anything that a correct backend may send.
#include <functional>

#include "test/nbd_fixture.h"

using namespace nbd_test;

namespace {

// In flight: READ 4096 at 8192 (tag 0), FLUSH (tag 1), WRITE 512 at 0 (tag 2).
struct Cookies {
  uint64_t read;
  uint64_t flush;
  uint64_t write;
};

struct Breach {
  const char* name;
  bool structured;
  std::function<Bytes(const Cookies&)> stream;
  const char* blame;  // in the event's text
};

constexpr bool kSimple = false;
constexpr bool kStructured = true;
constexpr uint64_t kOffset = 8192;
constexpr uint32_t kLength = 4096;

const Breach kReplyBreaches[] = {
    {"bad magic", kSimple, [](const Cookies&) { return Bytes().u32(0xdeadbeef).u64(0).u32(0); },
     "begins with 0xdeadbeef"},
    {"a request's magic", kSimple,
     [](const Cookies& c) { return Bytes().u32(kRequestMagic).u32(0).u64(c.read); }, "0x25609513"},
    {"structured reply that was not agreed on", kSimple,
     [](const Cookies& c) { return none_chunk(c.flush); }, "although none were agreed on"},
    {"simple reply to READ among structured", kStructured,
     [](const Cookies& c) { return simple(c.read).add(pattern(kOffset, kLength)); },
     "simple reply to a READ"},
    {"simple error to READ among structured", kStructured,
     [](const Cookies& c) { return simple(c.read, 5); }, "simple reply to a READ"},
    {"simple reply after an error chunk", kStructured,
     [](const Cookies& c) { return error_chunk(c.flush, 0, 5, "").add(simple(c.flush)); },
     "simple reply after chunks"},
    {"unknown cookie", kSimple, [](const Cookies&) { return simple(42); }, "not in flight"},
    {"cookie of another epoch", kSimple,
     [](const Cookies& c) { return simple(c.flush ^ (uint64_t{1} << 48)); }, "not in flight"},
    {"cookie of another generation", kSimple,
     [](const Cookies& c) { return simple(c.flush ^ (uint64_t{1} << 32)); }, "not in flight"},
    {"cookie of a tag beyond the table", kSimple,
     [](const Cookies& c) { return simple(c.flush | 0xffff0000); }, "not in flight"},
    {"cookie of a part that does not exist", kSimple,
     [](const Cookies& c) { return simple(c.flush | 0xffff); }, "not in flight"},
    {"all ones", kSimple, [](const Cookies&) { return simple(~uint64_t{0}); }, "not in flight"},
    {"the same reply twice", kSimple,
     [](const Cookies& c) { return simple(c.flush).add(simple(c.flush)); }, "not in flight"},
    {"a payload after a READ error", kSimple,
     [](const Cookies& c) { return simple(c.read, 5).add(pattern(kOffset, kLength)); }, "magic"},
    {"a payload after a WRITE", kSimple,
     [](const Cookies& c) { return simple(c.write).add(pattern(0, 512)); }, "magic"},
    {"chunk with an unknown cookie", kStructured,
     [](const Cookies& c) { return none_chunk(c.flush ^ 0x10000000000); }, "not in flight"},
    {"chunk after DONE", kStructured,
     [](const Cookies& c) { return none_chunk(c.flush).add(none_chunk(c.flush)); },
     "not in flight"},
};

const Breach kChunkBreaches[] = {
    {"NONE without DONE", kStructured,
     [](const Cookies& c) { return chunk(c.flush, 0, kTypeNone, {}); }, "type NONE"},
    {"NONE with a payload", kStructured,
     [](const Cookies& c) { return chunk(c.flush, kDone, kTypeNone, Bytes().u32(0)); },
     "type NONE"},
    {"unknown type", kStructured, [](const Cookies& c) { return chunk(c.read, kDone, 99, {}); },
     "type 99"},
    {"BLOCK_STATUS that nobody asked for", kStructured,
     [](const Cookies& c) { return chunk(c.read, kDone, 5, Bytes().u32(1).u32(512).u32(0)); },
     "type 5"},
    {"data in reply to FLUSH", kStructured,
     [](const Cookies& c) { return data_chunk(c.flush, kDone, 0, pattern(0, 8)); },
     "type 1 in reply"},
    {"data in reply to WRITE", kStructured,
     [](const Cookies& c) { return data_chunk(c.write, kDone, 0, pattern(0, 512)); },
     "type 1 in reply"},
    {"hole in reply to WRITE", kStructured,
     [](const Cookies& c) { return hole_chunk(c.write, kDone, 0, 512); }, "type 2 in reply"},
    {"data without a byte", kStructured,
     [](const Cookies& c) { return data_chunk(c.read, kDone, kOffset, {}); },
     "data chunk of 8 bytes"},
    {"data too short for an offset", kStructured,
     [](const Cookies& c) { return chunk(c.read, kDone, kTypeData, Bytes().u32(0)); },
     "data chunk of 4 bytes"},
    {"data longer than the READ", kStructured,
     [](const Cookies& c) { return data_chunk(c.read, kDone, kOffset, pattern(0, kLength + 1)); },
     "data chunk of 4105 bytes"},
    {"data of 4 GiB", kStructured,
     [](const Cookies& c) {
       return Bytes().u32(kStructuredMagic).u16(kDone).u16(kTypeData).u64(c.read).u32(0xffffffff);
     },
     "data chunk of 4294967295 bytes"},
    {"data before the READ", kStructured,
     [](const Cookies& c) { return data_chunk(c.read, kDone, kOffset - 1, pattern(0, 2)); },
     "outside the READ"},
    {"data at a negative offset", kStructured,
     [](const Cookies& c) { return data_chunk(c.read, kDone, uint64_t{0} - 8, pattern(0, 16)); },
     "outside the READ"},
    {"data across the READ's end", kStructured,
     [](const Cookies& c) {
       return data_chunk(c.read, kDone, kOffset + kLength - 1, pattern(0, 2));
     },
     "outside the READ"},
    {"data beyond the READ", kStructured,
     [](const Cookies& c) { return data_chunk(c.read, kDone, kOffset + kLength, pattern(0, 1)); },
     "outside the READ"},
    {"data 4 GiB further", kStructured,
     [](const Cookies& c) {
       return data_chunk(c.read, kDone, kOffset + (uint64_t{1} << 32), pattern(0, 1));
     },
     "outside the READ"},
    {"overlapping data", kStructured,
     [](const Cookies& c) {
       return data_chunk(c.read, 0, kOffset, pattern(kOffset, 512))
           .add(data_chunk(c.read, 0, kOffset + 511, pattern(kOffset + 511, 2)));
     },
     "twice"},
    {"hole over data", kStructured,
     [](const Cookies& c) {
       return data_chunk(c.read, 0, kOffset + 100, pattern(kOffset + 100, 512))
           .add(hole_chunk(c.read, kDone, kOffset, kLength));
     },
     "twice"},
    {"hole of 0 bytes", kStructured,
     [](const Cookies& c) { return hole_chunk(c.read, kDone, kOffset, 0); }, "hole of 0 bytes"},
    {"hole beyond the READ", kStructured,
     [](const Cookies& c) { return hole_chunk(c.read, kDone, kOffset, kLength + 1); },
     "outside the READ"},
    {"hole of 4 GiB", kStructured,
     [](const Cookies& c) { return hole_chunk(c.read, kDone, kOffset + 1, 0xffffffff); },
     "outside the READ"},
    {"hole chunk of 13 bytes", kStructured,
     [](const Cookies& c) {
       return chunk(c.read, kDone, kTypeHole, Bytes().u64(kOffset).u32(512).text("x"));
     },
     "hole chunk of 13 bytes"},
    {"data in too many pieces", kStructured,
     [](const Cookies& c) {
       Bytes stream;
       for (uint64_t at = 1; at < 200; at += 2)
         stream.add(data_chunk(c.read, 0, kOffset + at, pattern(kOffset + at, 1)));
       return stream;
     },
     "too many scattered chunks"},
    {"endless chunks of one byte", kStructured,
     [](const Cookies& c) {
       Bytes stream;
       for (uint64_t at = 0; at < 100; ++at)
         stream.add(data_chunk(c.read, 0, kOffset + at, pattern(kOffset + at, 1)));
       return stream;
     },
     "more than 24 chunks"},
    {"endless error chunks", kStructured,
     [](const Cookies& c) {
       Bytes stream;
       for (int count = 0; count < 100; ++count)
         stream.add(error_chunk(c.flush, 0, 5, ""));
       return stream;
     },
     "more than 16 chunks"},
};

const Breach kErrorChunkBreaches[] = {
    {"error 0", kStructured, [](const Cookies& c) { return error_chunk(c.read, kDone, 0, "fine"); },
     "error 0"},
    {"error chunk too short", kStructured,
     [](const Cookies& c) { return chunk(c.read, kDone, kTypeError, Bytes().u32(5)); },
     "error chunk of 4 bytes"},
    {"error chunk of 1 MiB", kStructured,
     [](const Cookies& c) {
       return chunk(c.read, kDone, kTypeError, Bytes().u32(5).u16(1).add(pattern(0, 1 << 20)));
     },
     "error chunk of 1048582 bytes"},
    {"message longer than its chunk", kStructured,
     [](const Cookies& c) {
       return chunk(c.read, kDone, kTypeError, Bytes().u32(5).u16(100).text("short"));
     },
     "message of 100 bytes"},
    {"message longer than a string may be", kStructured,
     [](const Cookies& c) {
       return chunk(c.read, kDone, kTypeErrorOffset,
                    Bytes().u32(5).u16(4097).add(pattern(0, 4097)).u32(0).text("abc"));
     },
     "message of 4097 bytes"},
    {"message shorter than its chunk", kStructured,
     [](const Cookies& c) {
       return chunk(c.read, kDone, kTypeError, Bytes().u32(5).u16(2).text("longer"));
     },
     "message of 2 bytes"},
    {"ERROR_OFFSET without an offset", kStructured,
     [](const Cookies& c) {
       return chunk(c.read, kDone, kTypeErrorOffset, Bytes().u32(5).u16(2).text("ab"));
     },
     "message of 2 bytes"},
    {"ERROR_OFFSET outside the request", kStructured,
     [](const Cookies& c) { return error_offset_chunk(c.read, kDone, 5, "x", kOffset + kLength); },
     "outside the request"},
    {"ERROR_OFFSET before the request", kStructured,
     [](const Cookies& c) { return error_offset_chunk(c.read, kDone, 5, "", 0); },
     "outside the request"},
    {"ERROR_OFFSET to FLUSH", kStructured,
     [](const Cookies& c) { return error_offset_chunk(c.flush, kDone, 5, "", 0); },
     "outside the request"},
};

// Sends the breach in one piece or byte by byte.
void play(const Breach& breach, bool byte_by_byte) {
  Fixture fixture({.structured = breach.structured});
  fixture.submit({fixture.request(Op::kRead, 0, kOffset, kLength),
                  fixture.request(Op::kFlush, 1, 0, 0), fixture.request(Op::kWrite, 2, 0, 512)});
  Cookies cookies{};
  cookies.read = fixture.next_request().cookie;
  cookies.flush = fixture.next_request().cookie;
  cookies.write = fixture.next_request().cookie;
  fixture.next_bytes(512);

  const Bytes stream = breach.stream(cookies);
  const size_t step = byte_by_byte ? 1 : stream.size();
  for (size_t at = 0; at < stream.size() && !fixture.is_lost(); at += step) {
    fixture.reply(stream.data() + at, step);
    if (byte_by_byte) fixture.settle();
  }
  // No answer is a success that the backend did not give before its breach.
  for (int tag : {0, 1, 2}) {
    const int32_t result = fixture.result_of(tag);
    CHECK(result == -EIO || (tag == 1 && result == 0) || (tag == 2 && result == 512));
  }
  CHECK(fixture.result_of(0) == -EIO);
  size_t violations = 0;
  for (const Fixture::Event& event : fixture.events) {
    if (event.kind == "warning") continue;
    ++violations;
    CHECK(event.kind == "protocol-violation");
    CHECK(event.text.starts_with("the backend broke the NBD protocol: it"));
    if (event.text.find(breach.blame) == std::string::npos)
      std::printf("# wanted '%s' in: %s\n", breach.blame, event.text.c_str());
    CHECK(event.text.find(breach.blame) != std::string::npos);
    CHECK(event.text.size() <= 512);
  }
  CHECK(violations == 1);
  CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
}

template <size_t kCount>
void play_all(const Breach (&breaches)[kCount]) {
  for (const Breach& breach : breaches) {
    for (const bool byte_by_byte : {false, true}) {
      play(breach, byte_by_byte);
      if (unbd::test::failed) {
        std::printf("# in the breach: %s\n", breach.name);
        return;
      }
    }
  }
}

}  // namespace

TEST("a reply that breaks the protocol ends the connection") {
  play_all(kReplyBreaches);
}
TEST("a chunk that breaks the protocol ends the connection") {
  play_all(kChunkBreaches);
}
TEST("an error chunk that breaks the protocol ends the connection") {
  play_all(kErrorChunkBreaches);
}

TEST("bytes that nobody asked for end the connection") {
  Fixture fixture;
  fixture.reply(simple(0));
  CHECK(fixture.turn_until([&] { return !fixture.events.empty(); }));
  CHECK(fixture.events[0].kind == "protocol-violation");
}

TEST("an answer to a request that has not left completely ends the connection") {
  Fixture fixture({.send_buffer_bytes = 1});
  const Request first = fixture.request(Op::kWrite, 0, 0, 1 << 20);
  fixture.fill_buffer(0, 0, 1 << 20);
  fixture.submit({first, fixture.request(Op::kFlush, 1, 0, 0)});
  const uint64_t cookie = fixture.next_request().cookie;
  fixture.reply(simple(cookie));
  CHECK(fixture.result_of(0) == -EIO && fixture.result_of(1) == -EIO);
  CHECK(fixture.events.size() == 1);
  CHECK(fixture.events[0].text.find("before all of it was sent") != std::string::npos);
}

TEST("a reply meant for a tag's earlier use does not answer its later one") {
  Fixture fixture;
  fixture.submit(fixture.request(Op::kRead, 0, 0, 512));
  const uint64_t earlier = fixture.next_request().cookie;
  fixture.reply(simple(earlier).add(pattern(0, 512)));
  CHECK(fixture.result_of(0) == 512);
  fixture.submit(fixture.request(Op::kRead, 0, 512, 512));
  fixture.next_request();
  fixture.reply(simple(earlier).add(pattern(0, 512)));
  CHECK(fixture.result_of(0) == -EIO);
}

TEST("after a violation nothing more is read from the backend") {
  Fixture fixture;
  fixture.submit({fixture.request(Op::kRead, 0, 0, 512), fixture.request(Op::kRead, 1, 0, 512)});
  const uint64_t cookie = fixture.next_request().cookie;
  fixture.reply(simple(1).add(simple(cookie)).add(pattern(0, 512)));
  CHECK(fixture.result_of(0) == -EIO && fixture.result_of(1) == -EIO);
  CHECK(fixture.events.size() == 1);
  CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
}

TEST_MAIN()
