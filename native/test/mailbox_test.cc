// Owns: the claims about Mailbox: which command holds when several come before the queue looks.
// Runs on the test's thread.
// Must not: need a queue.
#include "queue/mailbox.h"

#include "test/check.h"

using unbd::BackendConnection;
using unbd::Mailbox;

namespace {

int alive = 0;

class Counted final : public BackendConnection {
 public:
  explicit Counted(int number_in) : number(number_in) { ++alive; }
  ~Counted() override { --alive; }
  const int number;
};

std::unique_ptr<BackendConnection> connection(int number) {
  return std::make_unique<Counted>(number);
}

int number_of(const std::unique_ptr<BackendConnection>& taken) {
  return taken == nullptr ? 0 : static_cast<const Counted*>(taken.get())->number;
}

}  // namespace

TEST("a hold takes back a resume that the queue has not seen") {
  Mailbox mailbox;
  mailbox.post_resume(connection(1));
  mailbox.post_hold();
  CHECK(alive == 0);
  CHECK(mailbox.take() == (Mailbox::kHold | Mailbox::kResume));
  CHECK(mailbox.take_connection() == nullptr);
}

TEST("a resume behind a hold holds, and of two resumes the later one") {
  Mailbox mailbox;
  mailbox.post_hold();
  mailbox.post_resume(connection(1));
  mailbox.post_resume(connection(2));
  CHECK(alive == 1);
  CHECK(mailbox.take() == (Mailbox::kHold | Mailbox::kResume));
  CHECK(number_of(mailbox.take_connection()) == 2);
  CHECK(alive == 0 && mailbox.take() == 0);
}

TEST("holds are counted, also those that are taken as one") {
  Mailbox mailbox;
  mailbox.post_hold();
  mailbox.post_hold();
  CHECK(mailbox.take() == Mailbox::kHold && mailbox.holds() == 2);
  mailbox.post(Mailbox::kFailAll);
  CHECK(mailbox.take() == Mailbox::kFailAll && mailbox.holds() == 2);
}

TEST("a connection that nobody took is closed with the mailbox") {
  {
    Mailbox mailbox;
    mailbox.post_resume(connection(1));
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
}

TEST_MAIN()

TEST("of several rounds of quiesce the last one counts") {
  Mailbox mailbox;
  mailbox.post_quiesce(1);
  mailbox.post_quiesce(2);
  mailbox.post_quiesce(3);
  CHECK(mailbox.take() == Mailbox::kQuiesce && mailbox.quiesce_round() == 3);
}
