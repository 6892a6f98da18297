# Builds the addon (build/Release/ublk_nbd.node) and the helper executable. The Debug configuration is the
# sanitizer build: the same code with ASAN and UBSAN. The core is compiled once, as a static library without N-API.
{
  "variables": {
    "core_sources": ["<!@(ls -1 native/base/*.cc native/ring/*.cc native/ublk/*.cc native/queue/*.cc native/adapter/*.cc native/local/*.cc native/nbd/*.cc native/transport/*.cc native/bridge/*.cc native/store/*.cc 2>/dev/null || true)"],
    "helper_sources": ["<!@(ls -1 native/helper/*.cc)"],
    "node_sources": ["<!@(ls -1 native/node/*.cc)"]
  },
  "target_defaults": {
    "include_dirs": ["native"],
    "cflags!": ["-fno-omit-frame-pointer"],
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti"],
    "cflags_cc": ["-std=c++20", "-fno-rtti", "-fno-exceptions", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-missing-field-initializers", "-Wno-unused-parameter"],
    "configurations": {
      "Release": { "cflags": ["-O2", "-g1"] },
      "Debug": {
        "cflags": ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
        "ldflags": ["-fsanitize=address,undefined"]
      }
    }
  },
  "targets": [
    {
      "target_name": "unbd_core",
      "type": "static_library",
      "cflags": ["-fPIC"],
      "sources": ["<@(core_sources)"]
    },
    {
      "target_name": "ublk_nbd",
      "dependencies": ["unbd_core"],
      "cflags_cc": ["-isystem", "<!@(node -p \"require('path').dirname(require.resolve('node-addon-api/napi.h'))\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_DISABLE_CPP_EXCEPTIONS"],
      "sources": ["<@(node_sources)"],
      "libraries": ["-luring"]
    },
    {
      "target_name": "ublk-nbd-helper",
      "type": "executable",
      "dependencies": ["unbd_core"],
      "sources": ["<@(helper_sources)"],
      "libraries": ["-luring"]
    }
  ]
}
