// native/numbers.hpp -- the host's own integers, for simulation that must be fast.
//
// There are two files of this name. The include path chooses one: native/ (this) stores a value of N bits
// in the next larger integer of the host, exact/ in ap_int<N>. Nothing else differs between the builds.
#pragma once
#include <stdint.h>

namespace codesign {

template <int kLog2Bytes>
struct HostInteger;
template <>
struct HostInteger<0> {
  typedef int8_t Signed;
  typedef uint8_t Unsigned;
};
template <>
struct HostInteger<1> {
  typedef int16_t Signed;
  typedef uint16_t Unsigned;
};
template <>
struct HostInteger<2> {
  typedef int32_t Signed;
  typedef uint32_t Unsigned;
};
template <>
struct HostInteger<3> {
  typedef int64_t Signed;
  typedef uint64_t Unsigned;
};

template <int kBits>
struct Signed {
  typedef typename HostInteger<(kBits > 8) + (kBits > 16) + (kBits > 32)>::Signed type;
};

template <int kBits>
struct Unsigned {
  typedef typename HostInteger<(kBits > 8) + (kBits > 16) + (kBits > 32)>::Unsigned type;
};

// A signed value that is stored to be multiplied: 16 bits, which host compilers widen fastest.
template <int kBits>
struct Factor {
  typedef typename Signed<(kBits < 9 ? 9 : kBits)>::type type;
};

// A word of memory: kBytes bytes. A struct of bytes, so that loops over lanes become vector instructions.
template <int kBytes>
struct MemoryWord {
  struct type {
    uint8_t bytes[kBytes];
  };

  static type zero() {
    const type none = {};
    return none;
  }
  static unsigned byte(const type &word, int index) { return word.bytes[index]; }
  static void set_byte(type &word, int index, unsigned value) { word.bytes[index] = uint8_t(value); }
};

}  // namespace codesign
