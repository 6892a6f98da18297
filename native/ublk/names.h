// Owns: the names of the driver's feature flags and device states, for messages and for the
// helper's arguments. Pure, any thread.
// Must not: decide which features are wanted.
#pragma once

#include <cstdint>
#include <string_view>

namespace unbd {

constexpr unsigned kFeatureBits = 21;

// The name of a feature bit without UBLK_F_, or "" beyond the ones that are known. bit < 64.
std::string_view feature_name(unsigned bit);

// The bit mask of a name with or without UBLK_F_; 0 when it is unknown.
uint64_t feature_by_name(std::string_view name);

// "DEAD", "LIVE", "QUIESCED", "FAIL_IO", or "UNKNOWN".
std::string_view device_state_name(uint16_t state);

// The name of a control command (UBLK_U_CMD_… without that), or "?".
std::string_view command_name(uint32_t opcode);

}  // namespace unbd
