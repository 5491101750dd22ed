// exact/numbers.hpp -- integers of exactly the stated width: what is synthesised, and exact simulation.
//
// There are two files of this name. The include path chooses one: exact/ (this) stores every value in
// ap_int, native/ in the next larger integer of the host. Where a host is fast at something else than hardware,
// the two also spell the same value differently: Factor, Product, DotProducts, product_of,
// kRingCopies and Scale. Nothing else differs.
#pragma once
#include <ap_int.h>

#include "vendor.hpp"

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

// kPixels x kOutputs sums of kInputs products, with two weights in each multiplier.
//
// Weights of a pair lie in one number, high * 2^19 + low. Weights are in -8..15 and activations in -256..255, so
// the lower part of a sum of up to 64 products stays within +-64 * 256 * 15 < 2^18: no product and no sum of the
// lower half reaches the upper one but by its sign, and subtracting it leaves the upper half exact. The pair has
// 24 bits and the sum 44: one DSP48 a pair (25 x 18 bits, 48-bit sums), chained over the inputs. A tool left alone would
// balance the chain into a tree, whose adders find no place in DSPs.
//
// The last kFabric pixels have multipliers of LUTs instead, one a weight: boards run out of DSPs first.
template <int kPixels, int kInputs, int kOutputs, int kFabric>
struct DotProducts {
  static_assert(kFabric >= 0 && kFabric <= kPixels, "kFabric counts some of the array's pixels");
  static_assert(kInputs <= 64, "DotProducts: the lower of two sums must stay within 18 bits and a sign");
  static const int kPairs = (kOutputs + 1) / 2;
  static const int kShift = 19;
  struct Weights {
    ap_int<24> pair[kInputs][kPairs];
    ap_int<5> single[kInputs][kOutputs];
  };
  struct Result {
    Product data[kPixels][kOutputs];
  };

  // Weights of outputs [first, first + kOutputs) of a tile.
  template <class T, int kWidth>
  static void choose(const T (&tile)[kInputs][kWidth], int first, Weights &weights) {
    #pragma HLS INLINE
  Input:
    for (int i = 0; i < kInputs; ++i) {
      #pragma HLS UNROLL
    Pair:
      for (int k = 0; k < kPairs; ++k) {
        #pragma HLS UNROLL
        const int low = int(tile[i][first + 2 * k]);
        const int high = 2 * k + 1 < kOutputs ? int(tile[i][first + (2 * k + 1) % kOutputs]) : 0;
        weights.pair[i][k] = high * (1 << kShift) + low;
      }
    Single:
      for (int o = 0; o < kOutputs; ++o) {
        #pragma HLS UNROLL
        weights.single[i][o] = int(tile[i][first + o]);
      }
    }
  }

  template <class Acts>
  static void multiply(const Acts (&acts)[kPixels], const Weights &weights, Result &result) {
    #pragma HLS INLINE
  Fabric:
    for (int p = kPixels - kFabric; p < kPixels; ++p) {
      #pragma HLS UNROLL
    Output:
      for (int o = 0; o < kOutputs; ++o) {
        #pragma HLS UNROLL
        int sum = 0;
      FabricInput:
        for (int i = 0; i < kInputs; ++i) {
          #pragma HLS UNROLL
          const ap_int<14> product = weights.single[i][o] * acts[p][i];
          CODESIGN_IN_LUTS(product)
          sum += int(product);
        }
        result.data[p][o] = sum;
      }
    }
  Pixel:
    for (int p = 0; p < kPixels - kFabric; ++p) {
      #pragma HLS UNROLL
    Pair:
      for (int k = 0; k < kPairs; ++k) {
        #pragma HLS UNROLL
        #pragma HLS EXPRESSION_BALANCE off
        long long sum = 0;
      Input:
        for (int i = 0; i < kInputs; ++i) {
          #pragma HLS UNROLL
          sum += static_cast<long long>(int(weights.pair[i][k])) * int(acts[p][i]);
        }
        const int lower = int(sum & ((1 << kShift) - 1)), sign = 1 << (kShift - 1);
        const int low = (lower ^ sign) - sign;
        result.data[p][2 * k] = low;
        if (2 * k + 1 < kOutputs) result.data[p][(2 * k + 1) % kOutputs] = int((sum - low) >> kShift);
      }
    }
  }
};

// Of an accumulator and a factor of a wide row: two DSPs, or more where both are wide.
template <int kA, int kB>
ap_int<kA + kB> product_of(const ap_int<kA> &a, const ap_int<kB> &b) {
  #pragma HLS INLINE
  return a * b;
}

// Copies of a memory that three are to read at once: hardware gives each a memory with one port to read.
static const int kRingCopies = 3;

// The factor mult * 2^-shift of requant.hpp, and what becomes of an accumulator, in no more bits than a model needs:
// a sum of kSumBits, a factor of kMultBits, shifts to kMostShift, and kLefts shifts by 0, -1, ...
//
// Half to even is `half - 1 + (bit that becomes the lowest of the result)` added before the shift: one adder
// with a carry-in. A product is at most 2^kProduct, so that a shift by kProduct + 1 gives 0 (the tie goes to even) and
// larger ones are the same. Results lie in -256..255, so what is beyond +-512 stays outside after any shift left,
// and a shift left by 9 moves every product but 0 outside. Every 8-bit shift is therefore defined and exact.
template <class C>
struct Scale {
  static const int kProduct = C::kSumBits - 1 + C::kMultBits;
  static const int kMost = C::kMostShift < kProduct + 1 ? C::kMostShift : kProduct + 1;
  typedef ap_uint<16> type;  // mult in the lower byte, shift in the upper
  typedef ap_int<kProduct + 3> Wide;

  static type of(int mult, int shift) {
    #pragma HLS INLINE
    return type((mult & 255) | (shift & 255) << 8);
  }
  static int apply(int acc, int bias, const type &scale, int low, int high) {
    #pragma HLS INLINE
    const int bits = int(scale), shift = ((bits >> 8) ^ 128) - 128;
    const ap_int<C::kSumBits> sum = static_cast<long long>(acc) + bias;
    const ap_uint<C::kMultBits> mult = bits & 255;
    const Wide product = sum * mult;
    CODESIGN_IN_LUTS(product)
    const int right = shift < 1 ? 1 : shift > kMost ? kMost : shift;
    const Wide odd = (product >> right) & 1, half = Wide(1) << (right - 1);
    const Wide result = (product + half - 1 + odd) >> right;
    if (C::kLefts > 0 && shift <= 0) {
      const int left = shift < -9 ? 9 : -shift;
      const int small = product < -512 ? -512 : product > 512 ? 512 : int(product);
      const int raised = small * (1 << left);
      return raised < low ? low : raised > high ? high : raised;
    }
    return result < low ? low : result > high ? high : int(result);
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
