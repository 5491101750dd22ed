// vendor.hpp -- what Vivado HLS (to 2020.1) and Vitis HLS (since 2020.2) spell differently.
//
// The macros here are the only ones in this directory, and config.hpp has one at most: a pragma cannot be chosen in any
// other way.
//   CODESIGN_ONE_WORD(name)  the fields of a struct lie side by side in one memory or FIFO word
//   CODESIGN_IN_BRAM(name)   an array goes to block RAM, with one port to read and one to write
//   CODESIGN_IN_LUTS(name)   the product of a small multiplier is made of LUTs: DSPs are for the array
//   CODESIGN_LARGE(name)     an array goes to UltraRAM if config.hpp defines CODESIGN_IN_ULTRARAM, else where the tool
//                            wants it
//   CODESIGN_ONE_INSTANCE(name)  all calls of that function in this one are of the same hardware
//   CODESIGN_SIMULATED(code) code that no hardware has
// Their parameter is not called `variable`: that word of the pragma would be replaced as well.
// They expand to nothing under other compilers.
#pragma once

#define CODESIGN_PRAGMA(text) _Pragma(#text)

#if defined(__VITIS_HLS__)
#define CODESIGN_ONE_WORD(name) CODESIGN_PRAGMA(HLS AGGREGATE variable = name)
#define CODESIGN_IN_BRAM(name) CODESIGN_PRAGMA(HLS BIND_STORAGE variable = name type = ram_s2p impl = bram)
#define CODESIGN_IN_LUTS(name) CODESIGN_PRAGMA(HLS BIND_OP variable = name op = mul impl = fabric)
#define CODESIGN_ONE_INSTANCE(name) CODESIGN_PRAGMA(HLS ALLOCATION function instances = name<C> limit = 1)
#define CODESIGN_SIMULATED(code)
#elif defined(__SYNTHESIS__)
#define CODESIGN_ONE_WORD(name) CODESIGN_PRAGMA(HLS DATA_PACK variable = name)
#define CODESIGN_IN_BRAM(name) CODESIGN_PRAGMA(HLS RESOURCE variable = name core = RAM_S2P_BRAM)
#define CODESIGN_IN_LUTS(name) CODESIGN_PRAGMA(HLS RESOURCE variable = name core = Mul_LUT)
#define CODESIGN_ONE_INSTANCE(name) CODESIGN_PRAGMA(HLS ALLOCATION instances = name limit = 1 function)
#define CODESIGN_SIMULATED(code)
#else
#define CODESIGN_ONE_WORD(name)
#define CODESIGN_IN_BRAM(name)
#define CODESIGN_IN_LUTS(name)
#define CODESIGN_ONE_INSTANCE(name)
#define CODESIGN_SIMULATED(code) code
#endif

#if defined(CODESIGN_IN_ULTRARAM) && defined(__VITIS_HLS__)
#define CODESIGN_LARGE(name) CODESIGN_PRAGMA(HLS BIND_STORAGE variable = name type = ram_s2p impl = uram)
#elif defined(CODESIGN_IN_ULTRARAM) && defined(__SYNTHESIS__)
#define CODESIGN_LARGE(name) CODESIGN_PRAGMA(HLS RESOURCE variable = name core = XPM_MEMORY uram)
#else
#define CODESIGN_LARGE(name)
#endif
