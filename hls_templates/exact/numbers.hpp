// exact/numbers.hpp -- integers of exactly the stated width: what is synthesised, and exact simulation.
//
// There are two files of this name. The include path chooses one: exact/ (this) stores every value in
// ap_int, native/ in the next larger integer of the host. Nothing else differs between the builds.
#pragma once
#include <ap_int.h>

namespace codesign {

template <int kBits>
struct Signed {
  typedef ap_int<kBits> type;
};

template <int kBits>
struct Unsigned {
  typedef ap_uint<kBits> type;
};

// A signed value that is stored to be multiplied.
template <int kBits>
struct Factor {
  typedef ap_int<kBits> type;
};

// A word of memory: kBytes bytes, byte 0 in the lowest bits.
template <int kBytes>
struct MemoryWord {
  typedef ap_uint<8 * kBytes> type;

  static type zero() {
    #pragma HLS INLINE
    return type(0);
  }
  static unsigned byte(const type &word, int index) {
    #pragma HLS INLINE
    return word.range(8 * index + 7, 8 * index).to_uint();
  }
  static void set_byte(type &word, int index, unsigned value) {
    #pragma HLS INLINE
    word.range(8 * index + 7, 8 * index) = ap_uint<8>(value);
  }
};

}  // namespace codesign
