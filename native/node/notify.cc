// Owns: sd_notify(3) without its library: one datagram to $NOTIFY_SOCKET. JS thread only.
// Must not: block; a service manager that does not read loses the message.
#include "node/notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/fd.h"

namespace unbd::node {

Napi::Value notify_systemd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || info.Length() < 1 || !info[0].IsString())
    return Napi::Boolean::New(env, false);
  size_t length = std::strlen(path);
  if (length < 2 || length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
    return Napi::Boolean::New(env, false);
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';
  Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Napi::Boolean::New(env, false);
  std::string state = info[0].As<Napi::String>().Utf8Value();
  socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  ssize_t sent = ::sendto(fd.get(), state.data(), state.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                          reinterpret_cast<sockaddr*>(&address), size);
  return Napi::Boolean::New(env, sent == static_cast<ssize_t>(state.size()));
}

}  // namespace unbd::node
