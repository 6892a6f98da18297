// Owns: the check of our copy of the driver's interface against numbers written down independently,
// and of user_data.
// Runs on: one thread.
// Must not: take a constant from the code under test.
#include "ublk/uapi.h"
#include "ring/user_data.h"
#include "test/check.h"
#include "ublk/char_device.h"
#include "ublk/names.h"

using namespace unbd;

TEST("opcodes are the encoded ones of the kernel's header") {
  CHECK(uapi::kCmdGetQueueAffinity == 0x80207501);
  CHECK(uapi::kCmdGetDevInfo == 0x80207502);
  CHECK(uapi::kCmdAddDev == 0xc0207504);
  CHECK(uapi::kCmdDelDev == 0xc0207505);
  CHECK(uapi::kCmdStartDev == 0xc0207506);
  CHECK(uapi::kCmdStopDev == 0xc0207507);
  CHECK(uapi::kCmdSetParams == 0xc0207508);
  CHECK(uapi::kCmdGetParams == 0x80207509);
  CHECK(uapi::kCmdStartUserRecovery == 0xc0207510);
  CHECK(uapi::kCmdEndUserRecovery == 0xc0207511);
  CHECK(uapi::kCmdGetDevInfo2 == 0x80207512);
  CHECK(uapi::kCmdGetFeatures == 0x80207513);
  CHECK(uapi::kCmdDelDevAsync == 0x80207514);
  CHECK(uapi::kCmdUpdateSize == 0xc0207515);
  CHECK(uapi::kCmdQuiesceDev == 0xc0207516);
  CHECK(uapi::kCmdTryStopDev == 0xc0207517);
  CHECK(uapi::kIoFetchReq == 0xc0107520);
  CHECK(uapi::kIoCommitAndFetchReq == 0xc0107521);
}

TEST("user-copy offsets put queue, tag and byte where the driver looks for them") {
  CHECK(user_copy_offset(0, 0) == 0x80000000ULL);
  CHECK(user_copy_offset(0, 1) == 0x82000000ULL);
  CHECK(user_copy_offset(1, 0) == 0x20080000000ULL);
  CHECK(user_copy_offset(3, 4095) == 0x80000000ULL + 3 * 0x20000000000ULL + 4095 * 0x2000000ULL);
}

TEST("feature flags have the kernel's bits and names") {
  CHECK(uapi::kFeatureUserRecovery == 8);
  CHECK(uapi::kFeatureUserRecoveryReissue == 16);
  CHECK(uapi::kFeatureUserCopy == 0x80);
  CHECK(uapi::kFeatureNoAutoPartScan == 0x40000);
  CHECK(feature_name(3) == "USER_RECOVERY");
  CHECK(feature_name(18) == "NO_AUTO_PART_SCAN");
  CHECK(feature_name(21).empty());
  CHECK(feature_by_name("USER_COPY") == 0x80);
  CHECK(feature_by_name("UBLK_F_SAFE_STOP_DEV") == 0x20000);
  CHECK(feature_by_name("NOTHING") == 0);
}

TEST("user_data keeps kind and payload apart") {
  uint64_t made = make_user_data(UserDataKind::kAdapter, 0x00ffeeddccbbaa99ULL);
  CHECK(made == 0x02ffeeddccbbaa99ULL);
  CHECK(kind_of(made) == UserDataKind::kAdapter);
  CHECK(payload_of(made) == 0x00ffeeddccbbaa99ULL);
  CHECK(kind_of(make_user_data(UserDataKind::kUblk, ~0ULL)) == UserDataKind::kUblk);
}

TEST_MAIN()
