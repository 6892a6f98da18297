// Owns: the implementation of widen_receive_window() (see receive_window.h).
// Runs on: any thread.
// Must not: set SO_RCVBUF, which is bounded by net.core.rmem_max and ends the kernel's own tuning.
#include "transport/receive_window.h"

#include <sys/socket.h>

#include <cerrno>
#include <initializer_list>

namespace unbd {

// A socket is given the room for what its reader says it will wait for (tcp_set_rcvlowat() in
// net/ipv4/tcp.c), and keeps it when the reader waits for one byte again.
int widen_receive_window(int fd, int bytes) {
  for (const int wait_for : {bytes, 1})
    if (::setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &wait_for, sizeof(wait_for)) != 0) return -errno;
  return 0;
}

}  // namespace unbd
