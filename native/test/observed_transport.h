// Owns: ObservedTransport, a plain transport that tells a test what it was asked for.
// Runs on the test's thread.
// Must not: change what the transport does, but for the bytes that a call sends at most.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "transport/fd_transport.h"

namespace nbd_test {

class ObservedTransport final : public unbd::Transport {
 public:
  struct Log {
    int sends = 0;                             // calls of try_send that sent something
    int send_waits = 0;                        // calls of submit_send_ready
    bool closes_gracefully = false;            // without a reset
    size_t send_bytes_max = SIZE_MAX;          // a call sends no more than this
    std::vector<std::vector<iovec>> receives;  // iovecs of each receive that got something
  };

  ObservedTransport(unbd::Fd socket, Log* log) : inner_(std::move(socket)), log_(log) {}

  ssize_t try_send(const iovec* iov, int count) override;
  void submit_send_ready(io_uring_sqe* sqe) override;
  void submit_recv_watch(io_uring_sqe* sqe) override { inner_.submit_recv_watch(sqe); }
  ssize_t try_recv(const iovec* iov, int count) override;
  void shutdown() override { inner_.shutdown(); }
  void reset() override { inner_.reset(); }
  void close_gracefully_from_now_on() override {
    log_->closes_gracefully = true;
    inner_.close_gracefully_from_now_on();
  }
  void finish_sending() override { inner_.finish_sending(); }
  int fd() const override { return inner_.fd(); }

 private:
  unbd::FdTransport inner_;
  Log* log_;
};

inline ssize_t ObservedTransport::try_send(const iovec* iov, int count) {
  std::vector<iovec> limited(iov, iov + count);
  size_t left = log_->send_bytes_max;
  for (size_t index = 0; index < limited.size(); ++index) {
    if (limited[index].iov_len >= left) {
      limited[index].iov_len = left;
      limited.resize(index + 1);
      break;
    }
    left -= limited[index].iov_len;
  }
  const ssize_t sent = inner_.try_send(limited.data(), static_cast<int>(limited.size()));
  if (sent > 0) ++log_->sends;
  return sent;
}

inline void ObservedTransport::submit_send_ready(io_uring_sqe* sqe) {
  ++log_->send_waits;
  inner_.submit_send_ready(sqe);
}

inline ssize_t ObservedTransport::try_recv(const iovec* iov, int count) {
  const ssize_t received = inner_.try_recv(iov, count);
  if (received > 0) log_->receives.emplace_back(iov, iov + count);
  return received;
}

}  // namespace nbd_test
