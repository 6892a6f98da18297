// Owns: our copy of the ublk driver's interface (Linux include/uapi/linux/ublk_cmd.h, to 7.3), so
// that the headers of the machine we are built on do not matter. Encoded opcodes only: the plain
// ones are gone from newer kernels. Pure constants and layouts, any thread.
// Must not: differ from the kernel by a bit; sizes and offsets are asserted below.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unbd::uapi {

// _IOC(direction, 'u', number, size), the encoding of linux/ioctl.h on x86 and arm64.
constexpr uint32_t encode(uint32_t direction, uint32_t number, uint32_t size_bytes) {
  return (direction << 30) | (size_bytes << 16) | (uint32_t{'u'} << 8) | number;
}
constexpr uint32_t kIoR = 2;
constexpr uint32_t kIoWr = 3;

// sqe->cmd of a control command.
struct CtrlCmd {
  uint32_t dev_id;
  uint16_t queue_id;  // 0xffff where the command is not for a queue
  uint16_t len;
  uint64_t addr;
  uint64_t data[1];
  uint16_t dev_path_len;
  uint16_t pad;
  uint32_t reserved;
};
static_assert(sizeof(CtrlCmd) == 32);
static_assert(offsetof(CtrlCmd, addr) == 8 && offsetof(CtrlCmd, data) == 16 &&
              offsetof(CtrlCmd, dev_path_len) == 24);

// sqe->cmd of FETCH_REQ and COMMIT_AND_FETCH_REQ.
struct IoCmd {
  uint16_t q_id;
  uint16_t tag;
  int32_t result;
  uint64_t addr;
};
static_assert(sizeof(IoCmd) == 16 && offsetof(IoCmd, addr) == 8);

constexpr uint32_t kCmdGetQueueAffinity = encode(kIoR, 0x01, sizeof(CtrlCmd));
constexpr uint32_t kCmdGetDevInfo = encode(kIoR, 0x02, sizeof(CtrlCmd));
constexpr uint32_t kCmdAddDev = encode(kIoWr, 0x04, sizeof(CtrlCmd));
constexpr uint32_t kCmdDelDev = encode(kIoWr, 0x05, sizeof(CtrlCmd));
constexpr uint32_t kCmdStartDev = encode(kIoWr, 0x06, sizeof(CtrlCmd));
constexpr uint32_t kCmdStopDev = encode(kIoWr, 0x07, sizeof(CtrlCmd));
constexpr uint32_t kCmdSetParams = encode(kIoWr, 0x08, sizeof(CtrlCmd));
constexpr uint32_t kCmdGetParams = encode(kIoR, 0x09, sizeof(CtrlCmd));
constexpr uint32_t kCmdStartUserRecovery = encode(kIoWr, 0x10, sizeof(CtrlCmd));
constexpr uint32_t kCmdEndUserRecovery = encode(kIoWr, 0x11, sizeof(CtrlCmd));
constexpr uint32_t kCmdGetDevInfo2 = encode(kIoR, 0x12, sizeof(CtrlCmd));
constexpr uint32_t kCmdGetFeatures = encode(kIoR, 0x13, sizeof(CtrlCmd));
constexpr uint32_t kCmdDelDevAsync = encode(kIoR, 0x14, sizeof(CtrlCmd));
constexpr uint32_t kCmdUpdateSize = encode(kIoWr, 0x15, sizeof(CtrlCmd));
constexpr uint32_t kCmdQuiesceDev = encode(kIoWr, 0x16, sizeof(CtrlCmd));
constexpr uint32_t kCmdTryStopDev = encode(kIoWr, 0x17, sizeof(CtrlCmd));

constexpr uint32_t kIoFetchReq = encode(kIoWr, 0x20, sizeof(IoCmd));
constexpr uint32_t kIoCommitAndFetchReq = encode(kIoWr, 0x21, sizeof(IoCmd));

// CQE results of the two I/O commands.
constexpr int32_t kIoResOk = 0;
constexpr int32_t kIoResAbort = -19;  // -ENODEV: stop fetching

constexpr uint16_t kNoQueue = 0xffff;
constexpr uint32_t kAnyDevId = 0xffffffff;
constexpr unsigned kMaxQueueDepth = 4096;
constexpr unsigned kMaxQueues = 4096;
constexpr unsigned kFeaturesLen = 8;
constexpr unsigned kSectorShift =
    9;  // every sector count of the driver, whatever the logical block

// Positions for pread and pwrite on the char device (UBLK_F_USER_COPY).
constexpr uint64_t kIoBufOffset = 0x80000000;
constexpr unsigned kIoBufBits = 25;
constexpr unsigned kTagBits = 16;

// Feature flags (dev_info.flags, GET_FEATURES).
constexpr uint64_t kFeatureSupportZeroCopy = 1ULL << 0;
constexpr uint64_t kFeatureUringCmdCompInTask = 1ULL << 1;
constexpr uint64_t kFeatureNeedGetData = 1ULL << 2;
constexpr uint64_t kFeatureUserRecovery = 1ULL << 3;
constexpr uint64_t kFeatureUserRecoveryReissue = 1ULL << 4;
constexpr uint64_t kFeatureUnprivilegedDev = 1ULL << 5;
constexpr uint64_t kFeatureCmdIoctlEncode = 1ULL << 6;
constexpr uint64_t kFeatureUserCopy = 1ULL << 7;
constexpr uint64_t kFeatureZoned = 1ULL << 8;
constexpr uint64_t kFeatureUserRecoveryFailIo = 1ULL << 9;
constexpr uint64_t kFeatureUpdateSize = 1ULL << 10;
constexpr uint64_t kFeatureAutoBufReg = 1ULL << 11;
constexpr uint64_t kFeatureQuiesce = 1ULL << 12;
constexpr uint64_t kFeaturePerIoDaemon = 1ULL << 13;
constexpr uint64_t kFeatureBufRegOffDaemon = 1ULL << 14;
constexpr uint64_t kFeatureBatchIo = 1ULL << 15;
constexpr uint64_t kFeatureIntegrity = 1ULL << 16;
constexpr uint64_t kFeatureSafeStopDev = 1ULL << 17;
constexpr uint64_t kFeatureNoAutoPartScan = 1ULL << 18;
constexpr uint64_t kFeatureShmemZeroCopy = 1ULL << 19;
constexpr uint64_t kFeatureIoDescSize = 1ULL << 20;

// dev_info.state
constexpr uint16_t kStateDead = 0;
constexpr uint16_t kStateLive = 1;
constexpr uint16_t kStateQuiesced = 2;
constexpr uint16_t kStateFailIo = 3;

struct CtrlDevInfo {
  uint16_t nr_hw_queues;
  uint16_t queue_depth;
  uint16_t state;
  uint16_t io_desc_size;  // only with kFeatureIoDescSize, else 0
  uint32_t max_io_buf_bytes;
  uint32_t dev_id;
  int32_t ublksrv_pid;
  uint32_t pad1;
  uint64_t flags;
  uint64_t ublksrv_flags;
  uint32_t owner_uid;
  uint32_t owner_gid;
  uint64_t reserved1;
  uint64_t reserved2;
};
static_assert(sizeof(CtrlDevInfo) == 64);
static_assert(offsetof(CtrlDevInfo, dev_id) == 12 && offsetof(CtrlDevInfo, flags) == 24);

// One request, in the memory shared with the driver, indexed by tag. Stable from FETCH's CQE to
// COMMIT.
struct IoDesc {
  uint32_t op_flags;  // operation: bits 0-7; the kIoFlag… bits are tested on this field, unshifted
  uint32_t nr_sectors;
  uint64_t start_sector;
  uint64_t addr;
};
static_assert(sizeof(IoDesc) == 24 && offsetof(IoDesc, start_sector) == 8);

constexpr uint32_t kIoOpMask = 0xff;
constexpr uint32_t kIoOpRead = 0;
constexpr uint32_t kIoOpWrite = 1;
constexpr uint32_t kIoOpFlush = 2;
constexpr uint32_t kIoOpDiscard = 3;
constexpr uint32_t kIoOpWriteZeroes = 5;
constexpr uint32_t kIoFlagFua = 1U << 13;
constexpr uint32_t kIoFlagNoUnmap = 1U << 15;

constexpr uint32_t kAttrReadOnly = 1U << 0;
constexpr uint32_t kAttrRotational = 1U << 1;
constexpr uint32_t kAttrVolatileCache = 1U << 2;
constexpr uint32_t kAttrFua = 1U << 3;

struct ParamBasic {
  uint32_t attrs;
  uint8_t logical_bs_shift;
  uint8_t physical_bs_shift;
  uint8_t io_opt_shift;
  uint8_t io_min_shift;
  uint32_t max_sectors;
  uint32_t chunk_sectors;
  uint64_t dev_sectors;
  uint64_t virt_boundary_mask;
};
static_assert(sizeof(ParamBasic) == 32);

struct ParamDiscard {
  uint32_t discard_alignment;
  uint32_t discard_granularity;
  uint32_t max_discard_sectors;
  uint32_t max_write_zeroes_sectors;
  uint16_t max_discard_segments;
  uint16_t reserved0;
};
static_assert(sizeof(ParamDiscard) == 20);

struct ParamDevt {
  uint32_t char_major;
  uint32_t char_minor;
  uint32_t disk_major;
  uint32_t disk_minor;
};

constexpr uint32_t kParamTypeBasic = 1U << 0;
constexpr uint32_t kParamTypeDiscard = 1U << 1;
constexpr uint32_t kParamTypeDevt = 1U << 2;

struct Params {
  uint32_t len;
  uint32_t types;
  ParamBasic basic;
  ParamDiscard discard;
  ParamDevt devt;
  uint8_t zoned[32];
  uint8_t dma_align[8];
  uint8_t pad[4];  // the compiler's, before an 8-byte field
  uint8_t segment[16];
  uint8_t integrity[16];
};
static_assert(sizeof(Params) == 152);
static_assert(offsetof(Params, basic) == 8 && offsetof(Params, discard) == 40 &&
              offsetof(Params, devt) == 60 && offsetof(Params, zoned) == 76 &&
              offsetof(Params, dma_align) == 108 && offsetof(Params, segment) == 120 &&
              offsetof(Params, integrity) == 136);

}  // namespace unbd::uapi
