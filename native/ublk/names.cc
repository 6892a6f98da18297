// Owns: the tables behind names.h. Pure, any thread.
// Must not: decide which features are wanted.
#include "ublk/names.h"

#include <array>

#include "ublk/uapi.h"

namespace unbd {
namespace {

constexpr std::array<std::string_view, kFeatureBits> kFeatureNames = {
    "SUPPORT_ZERO_COPY",
    "URING_CMD_COMP_IN_TASK",
    "NEED_GET_DATA",
    "USER_RECOVERY",
    "USER_RECOVERY_REISSUE",
    "UNPRIVILEGED_DEV",
    "CMD_IOCTL_ENCODE",
    "USER_COPY",
    "ZONED",
    "USER_RECOVERY_FAIL_IO",
    "UPDATE_SIZE",
    "AUTO_BUF_REG",
    "QUIESCE",
    "PER_IO_DAEMON",
    "BUF_REG_OFF_DAEMON",
    "BATCH_IO",
    "INTEGRITY",
    "SAFE_STOP_DEV",
    "NO_AUTO_PART_SCAN",
    "SHMEM_ZC",
    "IO_DESC_SIZE",
};
static_assert(uapi::kFeatureIoDescSize == uint64_t{1} << (kFeatureBits - 1));

constexpr std::array<std::string_view, 4> kStateNames = {"DEAD", "LIVE", "QUIESCED", "FAIL_IO"};

struct CommandName {
  uint32_t opcode;
  std::string_view name;
};
constexpr CommandName kCommandNames[] = {
    {uapi::kCmdGetQueueAffinity, "GET_QUEUE_AFFINITY"},
    {uapi::kCmdGetDevInfo, "GET_DEV_INFO"},
    {uapi::kCmdAddDev, "ADD_DEV"},
    {uapi::kCmdDelDev, "DEL_DEV"},
    {uapi::kCmdStartDev, "START_DEV"},
    {uapi::kCmdStopDev, "STOP_DEV"},
    {uapi::kCmdSetParams, "SET_PARAMS"},
    {uapi::kCmdGetParams, "GET_PARAMS"},
    {uapi::kCmdStartUserRecovery, "START_USER_RECOVERY"},
    {uapi::kCmdEndUserRecovery, "END_USER_RECOVERY"},
    {uapi::kCmdGetDevInfo2, "GET_DEV_INFO2"},
    {uapi::kCmdGetFeatures, "GET_FEATURES"},
    {uapi::kCmdDelDevAsync, "DEL_DEV_ASYNC"},
    {uapi::kCmdUpdateSize, "UPDATE_SIZE"},
    {uapi::kCmdQuiesceDev, "QUIESCE_DEV"},
    {uapi::kCmdTryStopDev, "TRY_STOP_DEV"},
};

constexpr std::string_view kFeaturePrefix = "UBLK_F_";

}  // namespace

std::string_view feature_name(unsigned bit) {
  return bit < kFeatureNames.size() ? kFeatureNames[bit] : std::string_view{};
}

uint64_t feature_by_name(std::string_view name) {
  if (name.starts_with(kFeaturePrefix)) name.remove_prefix(kFeaturePrefix.size());
  for (unsigned bit = 0; bit < kFeatureNames.size(); ++bit)
    if (kFeatureNames[bit] == name) return uint64_t{1} << bit;
  return 0;
}

std::string_view device_state_name(uint16_t state) {
  return state < kStateNames.size() ? kStateNames[state] : std::string_view{"UNKNOWN"};
}

std::string_view command_name(uint32_t opcode) {
  for (const CommandName& entry : kCommandNames)
    if (entry.opcode == opcode) return entry.name;
  return "?";
}

}  // namespace unbd
