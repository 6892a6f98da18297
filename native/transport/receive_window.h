// Owns: how much a TCP connection may have on its way to us, where the kernel would only learn it.
// Runs on: any thread.
// Must not: read from the socket, or change when it counts as readable.
#pragma once

namespace unbd {

// Makes room for `bytes` (at most half of the maximum in net.ipv4.tcp_rmem) that the other side may
// send before it hears from us, and leaves it to the kernel to make more. Returns 0 or -errno
// (-ENOTSOCK, -EBADF); a socket that has the room already, or no TCP, stays as it is.
//
// The kernel finds out what room a connection needs from what arrives in a round trip
// (tcp_rcv_space_adjust() in net/ipv4/tcp_input.c). It starts with 64 KiB, and with bursts that
// come exactly a round trip apart it may stay there for many of them, which caps a distant origin
// at 64 KiB a round trip.
int widen_receive_window(int fd, int bytes);

}  // namespace unbd
