// vendor.hpp -- what Vivado HLS (to 2020.1) and Vitis HLS (since 2020.2) spell differently.
//
// The two macros here are the only ones in this directory: a pragma cannot be chosen in any other way.
//   CODESIGN_ONE_WORD(variable)  the fields of a struct lie side by side in one memory or FIFO word
//   CODESIGN_IN_BRAM(variable)   an array goes to block RAM, with one port to read and one to write
// Both expand to nothing under other compilers.
#pragma once

#define CODESIGN_PRAGMA(text) _Pragma(#text)

#if defined(__VITIS_HLS__)
#define CODESIGN_ONE_WORD(variable) CODESIGN_PRAGMA(HLS AGGREGATE variable = variable)
#define CODESIGN_IN_BRAM(variable) \
  CODESIGN_PRAGMA(HLS BIND_STORAGE variable = variable type = ram_s2p impl = bram)
#elif defined(__SYNTHESIS__)
#define CODESIGN_ONE_WORD(variable) CODESIGN_PRAGMA(HLS DATA_PACK variable = variable)
#define CODESIGN_IN_BRAM(variable) CODESIGN_PRAGMA(HLS RESOURCE variable = variable core = RAM_S2P_BRAM)
#else
#define CODESIGN_ONE_WORD(variable)
#define CODESIGN_IN_BRAM(variable)
#endif
