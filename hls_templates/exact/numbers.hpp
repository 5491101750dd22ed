// exact/numbers.hpp -- integers of exactly the stated width: what is synthesised, and exact simulation.
//
// There are two files of this name. The include path chooses one: exact/ (this) stores every value in
// ap_int, native/ in the next larger integer of the host. Where a host is fast at something else than hardware,
// the two also spell the same value differently: Factor, Product and Scale. Nothing else differs.
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

// A signed value that is stored to be multiplied, and a sum of such products.
template <int kBits>
struct Factor {
  typedef ap_int<kBits> type;
};
typedef int Product;

// The factor mult * 2^-shift of requant.hpp, and what becomes of an accumulator.
//
// Half to even is `half - 1 + (bit that becomes the lowest of the result)` added before the shift: one adder
// with a carry-in. |(acc + bias) * mult| <= 2^32 * 255 < 2^40, so a shift right by 42 already gives 0 for every
// product; results lie in -256..255, so what is beyond +-512 stays outside after any shift left, and a shift
// left by 9 moves every product but 0 outside. Every 8-bit shift is therefore defined and exact.
struct Scale {
  typedef ap_uint<16> type;  // mult in the lower byte, shift in the upper

  static type of(int mult, int shift) {
    #pragma HLS INLINE
    return type((mult & 255) | (shift & 255) << 8);
  }
  static int apply(int acc, int bias, const type &scale, int low, int high) {
    #pragma HLS INLINE
    const int bits = int(scale), shift = ((bits >> 8) ^ 128) - 128;
    const long long product = (static_cast<long long>(acc) + bias) * (bits & 255);
    const int right = shift < 1 ? 1 : shift > 42 ? 42 : shift;
    const int left = shift > 0 ? 0 : shift < -9 ? 9 : -shift;
    const long long odd = (product >> right) & 1;
    const long long rounded = (product + (1LL << (right - 1)) - 1 + odd) >> right;
    const long long small = product < -512 ? -512 : product > 512 ? 512 : product;
    const long long result = shift > 0 ? rounded : small * (1LL << left);
    return int(result < low ? low : result > high ? high : result);
  }
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
