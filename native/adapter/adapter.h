// Owns: the one noun between the kernel's queue and a backend: Adapter, with Request,
// CompletionSink and BackendConnection. Runs on: every member of Adapter is called on the queue's
// thread, which made the ring that it is given. Must not: know the kernel driver or a protocol; an
// adapter never includes queue/ or ublk/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace unbd {

class Ring;

enum class Op : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };

// One block request as the kernel handed it over. Valid until its completion.
struct Request {
  uint64_t offset_bytes;  // multiple of the logical block size; 0 for kFlush
  uint64_t length_bytes;  // multiple of the logical block size; 0 for kFlush
  std::byte* buffer;      // kRead: fill it; kWrite: send it; otherwise null. Page aligned.
  uint16_t tag;
  uint16_t generation;  // of the tag; a completion with another one is dropped and counted
  Op op;
  bool fua;       // kWrite, kWriteZeroes, kDiscard: durable before the completion
  bool no_unmap;  // kWriteZeroes: blocks must stay allocated (UBLK_IO_F_NOUNMAP)
};

// Where an adapter puts its results; the queue implements it.
class CompletionSink {
 public:
  // result: bytes done for kRead and kWrite (always the whole length; a partial one is the
  // adapter's to finish), 0 for other operations, or a negative errno. Exactly once per submitted
  // request.
  virtual void complete(uint16_t tag, uint16_t generation, int32_t result) = 0;

 protected:
  ~CompletionSink() = default;
};

// What an adapter has to tell the control plane. Thread-safe, never blocks, bounded, off the
// request path.
class EventSink {
 public:
  // kind is one of: "backend-lost" (text: the cause, for people), "protocol-violation" (text: whose
  // fault and what), "hold-expired", "resumed" (text: how many requests were sent again),
  // "warning". The texts are sanitised: no control characters, at most 512 bytes.
  virtual void post(std::string_view kind, std::string_view text) = 0;

 protected:
  ~EventSink() = default;
};

// A connection that takes a lost one's place: made on the control plane's side, handed to
// Adapter::resume() by the queue, and known in its kind to the adapter alone.
class BackendConnection {
 public:
  virtual ~BackendConnection() = default;
};

class Adapter {
 public:
  virtual ~Adapter() = default;

  // How many of its SQEs can be in flight beside two for each request; the ring has room for their
  // CQEs.
  virtual unsigned further_sqes() const { return 0; }

  // Once, before anything else. The three outlive the adapter. Returns 0 or -errno.
  virtual int start(Ring& ring, CompletionSink& sink, EventSink& events) = 0;

  // Takes a batch, in the kernel's order. May complete any of it at once. Must stage, not send,
  // what batching makes cheaper; end_turn() follows after the whole turn.
  virtual void submit(std::span<const Request> batch) = 0;

  // A CQE of this adapter's: payload is the 56 bits that it put into make_user_data(kAdapter,
  // payload).
  virtual void on_cqe(uint64_t payload, int32_t result, uint32_t flags) = 0;

  // The turn is over, the thread is about to wait: send what is staged, arm what is to be awaited.
  virtual void end_turn() = 0;

  // "Fail all now": completes every request in flight, and every later one, with -error. error is
  // positive.
  virtual void fail_all(int error) = 0;

  // Cuts the connection to the backend: requests wait from now on, as the adapter's own policy
  // says. Nothing that the backend has said is taken after it. Adapters without a connection have
  // nothing to do.
  virtual void hold() {}

  // Ends the hold: requests go to connection, those that were in flight first. Without effect after
  // fail_all() and stop().
  virtual void resume(std::unique_ptr<BackendConnection> connection) {}

  // No request is in flight and none will come. Says goodbye to the backend (FLUSH, DISC) without
  // blocking; when stopped() turns true no SQE of this adapter is in flight and it may be
  // destroyed. Bounded by the caller's deadline: after it the caller calls fail_all() and then
  // waits for stopped() once more.
  virtual void stop() = 0;
  virtual bool stopped() const = 0;
};

}  // namespace unbd
