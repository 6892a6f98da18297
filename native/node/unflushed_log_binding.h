// Owns: UnflushedLog of src/gateway/native.ts: the log of a device's unflushed writes, seen from
// JS. JS thread; a replay blocks on libuv's pool.
// Must not: append to the log or declare anything flushed; the queues do.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "nbd/unflushed_log.h"

namespace unbd::node {

class UnflushedLogBinding : public Napi::ObjectWrap<UnflushedLogBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit UnflushedLogBinding(const Napi::CallbackInfo& info);

  // The log that value stands for, to be shared with its queues. Null, with a JS error pending,
  // when it is closed or no log.
  static std::shared_ptr<UnflushedLog> share(const Napi::Value& value);

 private:
  using Make = int (*)(const std::string&, unsigned, uint64_t, std::shared_ptr<UnflushedLog>*,
                       std::string*);

  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value open(const Napi::CallbackInfo& info);
  static Napi::Value make(const Napi::CallbackInfo& info, Make make);
  static UnflushedLogBinding* unwrap(const Napi::Value& value);
  bool is_open(Napi::Env env) const;

  Napi::Value entries(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value hold_deadline(const Napi::CallbackInfo& info);
  void set_hold_deadline(const Napi::CallbackInfo& info, const Napi::Value& value);
  Napi::Value next_epoch(const Napi::CallbackInfo& info);
  Napi::Value replay(const Napi::CallbackInfo& info);
  void unlink(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<UnflushedLog> log_;  // null: closed
};

}  // namespace unbd::node
