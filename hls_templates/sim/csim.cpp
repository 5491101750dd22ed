// sim/csim.cpp -- the engine as a shared library, called from codesign/csim.py.
#include "sim/memory.hpp"

extern "C" int codesign_csim(uint8_t *bytes, int words, int program) {
  return codesign::simulate(bytes, words, program);
}

extern "C" const char *codesign_misuse() { return hls::Misuse::message(); }
