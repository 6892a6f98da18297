// Owns: FdTransport, a Transport over one plain stream socket: TCP, unix or vsock.
// Runs on: as Transport says, one thread at a time; shutdown() alone may come from any thread.
// Must not: buffer bytes of its own, block, or know what protocol it carries.
#pragma once

#include <atomic>

#include "base/fd.h"
#include "transport/transport.h"

namespace unbd {

class FdTransport final : public Transport {
 public:
  // Takes a non-blocking stream socket, connected or about to be (see connect.h).
  explicit FdTransport(Fd socket) : socket_(std::move(socket)) {}

  ssize_t try_send(const iovec* iov, int count) override;
  void submit_send_ready(io_uring_sqe* sqe) override;
  void submit_recv_watch(io_uring_sqe* sqe) override;
  ssize_t try_recv(const iovec* iov, int count) override;
  void shutdown() override;
  void reset() override;
  void close_gracefully_from_now_on() override;
  void finish_sending() override;
  int fd() const override { return socket_.get(); }

  // True after shutdown(): what ends from then on was ended by us. Any thread.
  bool is_shut_down() const { return shut_down_.load(std::memory_order_acquire); }

 private:
  ssize_t ended_by(ssize_t result) const;

  Fd socket_;
  std::atomic<bool> shut_down_{false};
};

}  // namespace unbd
