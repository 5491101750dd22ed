// native/numbers.hpp -- the host's own integers, for simulation that must be fast.
//
// There are two files of this name. The include path chooses one: native/ (this) stores a value of N bits
// in the next larger integer of the host, exact/ in ap_int<N>. Where a host is fast at something else than
// hardware, the two also spell the same value differently: Factor, Product, DotProducts, product_of,
// kRingCopies and Scale. Nothing else differs.
#pragma once
#include <float.h>
#include <math.h>
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

// A signed value that is stored to be multiplied, and a sum of such products. Floats, because hosts multiply and
// add them in one instruction for many lanes. They hold every integer up to 2^24, so sums are exact: 64 products
// of two factors give 2^6 * 2^8 * 2^8 at most.
template <int kBits>
struct Factor {
  static_assert(kBits <= 9, "Factor: a sum of 64 products must stay below 2^24 to be exact in a float");
  typedef float type;
};
typedef float Product;

// kPixels x kOutputs sums of kInputs products. Outputs side by side in a vector; pixels, and where they are few
// inputs taken in turn, as independent chains of additions.
template <int kPixels, int kInputs, int kOutputs, int kFabric>
struct DotProducts {
  static const int kWanted = kPixels >= 4 ? 1 : kPixels >= 2 ? 2 : 4;
  static const int kChains = kInputs % kWanted == 0 ? kWanted : 1;
  struct Weights {
    const float *row[kInputs];
  };
  struct Result {
    Product data[kPixels][kOutputs];
  };

  // Weights of outputs [first, first + kOutputs) of a tile.
  template <int kWidth>
  static void choose(const float (&tile)[kInputs][kWidth], int first, Weights &weights) {
    for (int i = 0; i < kInputs; ++i) weights.row[i] = &tile[i][first];
  }

  template <class Acts>
  static void multiply(const Acts (&acts)[kPixels], const Weights &weights, Result &result) {
    Result sum[kChains] = {};
    for (int i = 0; i < kInputs; i += kChains) {
#pragma GCC unroll 4
      for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 16
        for (int p = 0; p < kPixels; ++p) {
          for (int o = 0; o < kOutputs; ++o) {
            sum[c].data[p][o] += acts[p][i + c] * weights.row[i + c][o];
          }
        }
      }
    }
    for (int c = 1; c < kChains; ++c) {
      for (int p = 0; p < kPixels; ++p) {
        for (int o = 0; o < kOutputs; ++o) sum[0].data[p][o] += sum[c].data[p][o];
      }
    }
    result = sum[0];
  }
};

// Of an accumulator and a factor of a wide row.
template <class A, class B>
int64_t product_of(const A &a, const B &b) {
  return int64_t(a) * b;
}

// Copies of a memory that three are to read at once: a host reads one as often as it likes.
static const int kRingCopies = 1;

// The factor mult * 2^-shift of requant.hpp, and what becomes of an accumulator. All of it is exact in a double:
// |acc + bias| * mult < 2^41, and a power of two changes no bits. Limits are integers, so they may come before
// rounding. Adding 3 * 2^51, where neighbouring doubles are 1 apart, rounds as hosts do: half to even.
template <class C>
struct Scale {
  static_assert(FLT_EVAL_METHOD == 0, "Scale: a double must be rounded to 53 bits after each operation");
  typedef double type;

  static type of(int mult, int shift) { return ldexp(double(mult), -shift); }
  static int apply(int acc, int bias, type scale, int low, int high) {
    const double least = low, most = high, integers = 6755399441055744.0;
    const double exact = (double(acc) + double(bias)) * scale;
    const double raised = exact < least ? least : exact;
    const double limited = raised > most ? most : raised;
    return int((limited + integers) - integers);
  }
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
