// Owns: the claim that under load, over real sockets and with a backend in another thread that
// answers as it likes, every read returns what was written last. Run under TSAN and ASAN too.
// Runs on: the test's thread (queue and adapter) and a backend thread for each connection.
// Must not: share memory between the two threads but the socket.
#include <netinet/in.h>
#include <sys/un.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "test/nbd_fixture.h"
#include "transport/connect.h"

using namespace nbd_test;

namespace {

constexpr uint16_t kTags = 32;
constexpr uint32_t kRegionBytes = 1 << 19;  // of the image, one for each tag
constexpr int kRequests = 800;

void send_fully(int socket, const Bytes& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t sent = ::send(socket, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    REQUIRE(sent > 0);
    done += static_cast<size_t>(sent);
  }
}

bool recv_fully(int socket, uint8_t* bytes, size_t length) {
  return length == 0 || ::recv(socket, bytes, length, MSG_WAITALL) == static_cast<ssize_t>(length);
}

// A memory image that keeps requests back and answers them in another order, in one piece or in
// chunks.
class Backend {
 public:
  Backend(int socket, bool structured) : socket_(socket), structured_(structured) {
    image_.resize(size_t{kTags} * kRegionBytes);
  }

  void serve() {
    uint8_t head[kRequestBytes];
    while (recv_fully(socket_, head, sizeof(head))) {
      const Sent sent = parse_request(head);
      REQUIRE(sent.magic == kRequestMagic);
      if (sent.type == kCmdDisc) {
        has_goodbye_ = true;
        break;
      }
      if (sent.type == kCmdWrite)
        REQUIRE(recv_fully(socket_, image_.data() + sent.offset, sent.length));
      if (sent.type == kCmdWriteZeroes) std::memset(image_.data() + sent.offset, 0, sent.length);
      waiting_.push_back(sent);
      // Nobody else may be waiting for these, so they are not kept longer than there are bytes to
      // read.
      if (waiting_.size() >= 1 + random_() % 8 || !has_input()) answer_all();
    }
    ::close(socket_);
    REQUIRE(has_goodbye_ && waiting_.empty());
  }

 private:
  bool has_input() const {
    uint8_t byte = 0;
    return ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  }

  void answer_all() {
    std::shuffle(waiting_.begin(), waiting_.end(), random_);
    Bytes stream;
    for (const Sent& sent : waiting_)
      stream.add(answer(sent));
    send_fully(socket_, stream);
    waiting_.clear();
  }

  Bytes answer(const Sent& sent) {
    if (sent.type != kCmdRead)
      return structured_ && random_() % 2 == 0 ? none_chunk(sent.cookie) : simple(sent.cookie);
    if (!structured_) return simple(sent.cookie).add(stored(sent.offset, sent.length));
    Bytes stream;
    const uint32_t half = sent.length / 2;
    stream.add(data_chunk(sent.cookie, 0, sent.offset + half,
                          stored(sent.offset + half, sent.length - half)));
    stream.add(data_chunk(sent.cookie, kDone, sent.offset, stored(sent.offset, half)));
    return stream;
  }

  Bytes stored(uint64_t offset, uint32_t length) const {
    return Bytes().raw(image_.data() + offset, length);
  }

  const int socket_;
  const bool structured_;
  bool has_goodbye_ = false;
  std::vector<uint8_t> image_;
  std::vector<Sent> waiting_;
  std::minstd_rand random_{7};
};

// What each tag's region holds, and the request that is in flight for it.
class Load {
 public:
  explicit Load(Fixture& fixture) : fixture_(fixture), image_(size_t{kTags} * kRegionBytes) {}

  void run() {
    std::vector<Request> batch;
    for (int begun = 0; begun < kRequests || !in_flight_.empty();) {
      batch.clear();
      for (uint16_t tag = 0; tag < kTags && begun < kRequests; ++tag) {
        if (in_flight_.contains(tag) || random_() % 3 == 0) continue;
        batch.push_back(begin(tag));
        ++begun;
      }
      if (!batch.empty()) fixture_.submit(batch);
      REQUIRE(fixture_.turn_until([&] { return in_flight_.empty() || fixture_.answered() > 0; }));
      finish_answered();
    }
  }

 private:
  Request begin(uint16_t tag) {
    const Op op = std::array{Op::kRead,  Op::kRead,        Op::kWrite,
                             Op::kWrite, Op::kWriteZeroes, Op::kFlush}[random_() % 6];
    if (op == Op::kFlush) return in_flight_[tag] = fixture_.request(op, tag, 0, 0);
    const uint32_t sectors_max = random_() % 12 == 0 ? kRegionBytes / 512 : 16;
    const uint32_t length = 512 * (1 + static_cast<uint32_t>(random_() % sectors_max));
    const uint32_t at =
        512 * static_cast<uint32_t>(random_() % ((kRegionBytes - length) / 512 + 1));
    const Request request = fixture_.request(op, tag, uint64_t{tag} * kRegionBytes + at, length);
    if (op == Op::kWrite) fixture_.fill_buffer(tag, random_(), length);
    return in_flight_[tag] = request;
  }

  void finish_answered() {
    for (auto entry = in_flight_.begin(); entry != in_flight_.end();) {
      if (!fixture_.is_answered(entry->first)) {
        ++entry;
        continue;
      }
      const Request& request = entry->second;
      const bool has_data = request.op == Op::kRead || request.op == Op::kWrite;
      REQUIRE(fixture_.result_of(request.tag) ==
              (has_data ? static_cast<int32_t>(request.length_bytes) : 0));
      uint8_t* const stored = image_.data() + request.offset_bytes;
      if (request.op == Op::kRead)
        REQUIRE(std::memcmp(fixture_.buffer(request.tag), stored, request.length_bytes) == 0);
      if (request.op == Op::kWrite)
        std::memcpy(stored, fixture_.buffer(request.tag), request.length_bytes);
      if (request.op == Op::kWriteZeroes) std::memset(stored, 0, request.length_bytes);
      entry = in_flight_.erase(entry);
    }
    fixture_.forget_results();
  }

  Fixture& fixture_;
  std::vector<uint8_t> image_;
  std::map<uint16_t, Request> in_flight_;
  std::minstd_rand random_{11};
};

void run_load(int client, int backend_socket, const Fixture::Options& options) {
  std::thread thread([&] { Backend(backend_socket, options.structured).serve(); });
  {
    Fixture::Options connected = options;
    connected.socket = client;
    Fixture fixture(connected);
    Load(fixture).run();
    CHECK(fixture.events.empty());
    fixture.adapter().stop();
    CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
  }
  thread.join();
}

// A connected pair of TCP sockets over the loopback: ours and the backend's.
std::pair<int, int> tcp_pair() {
  const unbd::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
  std::unique_ptr<unbd::FdTransport> transport;
  const unbd::Endpoint endpoint{.address = "127.0.0.1", .port = ntohs(address.sin_port)};
  REQUIRE(unbd::open_endpoint(endpoint, &transport) == 0);
  REQUIRE(unbd::connect_transport(*transport, endpoint, kPatienceMs) == 0);
  const int backend = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
  REQUIRE(backend >= 0);
  return {::dup(transport->fd()), backend};
}

std::pair<int, int> unix_pair() {
  int pair[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  return {pair[0], pair[1]};
}

}  // namespace

TEST("over TCP with simple replies every read is right") {
  const auto [client, backend] = tcp_pair();
  run_load(client, backend, {});
}

TEST("over TCP with structured replies and small parts every read is right") {
  const auto [client, backend] = tcp_pair();
  run_load(client, backend, {.structured = true, .can_fua = false, .maximum_block_bytes = 65536});
}

TEST("over a unix socket with structured replies every read is right") {
  const auto [client, backend] = unix_pair();
  run_load(client, backend, {.structured = true});
}

TEST("over a unix socket with a small send buffer every read is right") {
  const auto [client, backend] = unix_pair();
  run_load(client, backend, {.send_buffer_bytes = 1});
}

TEST_MAIN()
