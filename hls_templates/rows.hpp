// rows.hpp -- a row of requantization: what it is made of in memory, and what becomes of an accumulator.
//
//   narrow   y = clamp(RHE((acc + bias) * mult, shift), low, high): Scale of numbers.hpp
//   wide     P = acc * mult + bias, y = clamp((P + 2^(shift-1) + d) >> shift, low, high),
//            d = 2^ties - 1 where P >> shift is odd, else -2^ties
//
// Wide rows have factors of up to 32 bits and a constant as fine as their products, so that they meet any line of real
// steps; with ties = 0 they round half to even. An engine has one kind for all: kWide is 0, or the bits of the constant.
#pragma once
#include "numbers.hpp"

namespace codesign {

// Bytes of each lane: four of bias, lowest first, mult, shift; six of bias, four of mult, shift, ties.
static const int kRequantWords = 6;
static const int kWideRequantWords = 12;
static const int kMostWideShift = 60;  // 64 bits hold a product of 62, a constant and two halves

template <class C>
struct NarrowRow {
  static const int kWords = kRequantWords;
  typename Signed<32>::type bias[C::kLanes];
  typename Scale<C>::type scale[C::kLanes];

  void set(int lane, const typename MemoryWord<C::kLanes>::type (&word)[kWords]) {
    #pragma HLS INLINE
    typedef MemoryWord<C::kLanes> Memory;
    const unsigned bytes = Memory::byte(word[0], lane) | Memory::byte(word[1], lane) << 8 |
                           Memory::byte(word[2], lane) << 16 | Memory::byte(word[3], lane) << 24;
    bias[lane] = int(bytes);
    scale[lane] = Scale<C>::of(static_cast<unsigned char>(Memory::byte(word[4], lane)),
                               static_cast<signed char>(Memory::byte(word[5], lane)));
  }
  template <class Acc>
  int code(int lane, const Acc &acc, int low, int high) const {
    #pragma HLS INLINE
    return Scale<C>::apply(int(acc), int(bias[lane]), scale[lane], low, high);
  }
};

template <class C>
struct WideRow {
  static const int kWords = kWideRequantWords;
  static const int kMost = C::kMostShift < kMostWideShift ? C::kMostShift : kMostWideShift;
  static const int kProduct = C::kAccBits + C::kMultBits;
  typedef typename Signed<(kProduct > C::kWide ? kProduct : C::kWide) + 3>::type Sum;
  typename Signed<C::kWide>::type bias[C::kLanes];
  typename Signed<C::kMultBits>::type mult[C::kLanes];
  typename Unsigned<6>::type shift[C::kLanes];
  typename Unsigned<6>::type ties[C::kLanes];

  void set(int lane, const typename MemoryWord<C::kLanes>::type (&word)[kWords]) {
    #pragma HLS INLINE
    typedef MemoryWord<C::kLanes> Memory;
    const unsigned lower = Memory::byte(word[0], lane) | Memory::byte(word[1], lane) << 8 |
                           Memory::byte(word[2], lane) << 16 | Memory::byte(word[3], lane) << 24;
    const int upper = int(Memory::byte(word[4], lane) | Memory::byte(word[5], lane) << 8);
    const unsigned factor = Memory::byte(word[6], lane) | Memory::byte(word[7], lane) << 8 |
                            Memory::byte(word[8], lane) << 16 | Memory::byte(word[9], lane) << 24;
    bias[lane] = static_cast<long long>((upper ^ 32768) - 32768) * (1LL << 32) + lower;
    mult[lane] = int(factor);
    shift[lane] = Memory::byte(word[10], lane) & 63;
    ties[lane] = Memory::byte(word[11], lane) & 63;
  }
  template <class Acc>
  int code(int lane, const Acc &acc, int low, int high) const {
    #pragma HLS INLINE
    const int asked = int(shift[lane]), halves = int(ties[lane]);
    const int right = asked < 1 ? 1 : asked > kMost ? kMost : asked;
    const Sum value = product_of(acc, mult[lane]) + bias[lane], one = 1;
    const Sum half = one << (right - 1), near = one << (halves < right ? halves : right - 1);
    const bool odd = ((value >> right) & 1) != 0;
    const Sum step = odd ? Sum(near - 1) : Sum(-near);
    const Sum result = (value + half + step) >> right;
    return result < low ? low : result > high ? high : int(result);
  }
};

// The kind that an engine has.
template <class C, bool kIsWide = (C::kWide > 0)>
struct RowOf {
  typedef NarrowRow<C> type;
};
template <class C>
struct RowOf<C, true> {
  typedef WideRow<C> type;
};

}  // namespace codesign
