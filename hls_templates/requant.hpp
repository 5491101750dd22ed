// requant.hpp -- from accumulator to 8-bit activation, per channel.
//
//   y = clamp(RHE((acc + bias) * mult, shift), low, high)
//   RHE(p, n) = p / 2^n rounded half to even for n > 0, p * 2^-n otherwise
//
// Half to even is `half - 1 + (bit that becomes the lowest of the result)` added before the shift: one adder
// with a carry-in. |(acc + bias) * mult| <= 2^32 * 255 < 2^40, so a shift right by 42 already gives 0 for every
// product; results lie in -256..255, so what is beyond +-512 stays outside after any shift left, and a shift
// left by 9 moves every product but 0 outside. Every 8-bit shift is therefore defined and exact.
// Pure arithmetic, used inside the loops of window.hpp and pointwise.hpp at one word a cycle.
#pragma once
#include "types.hpp"

namespace codesign {

inline int shift_half_even(long long product, int shift) {
  #pragma HLS INLINE
  const int right = shift < 1 ? 1 : shift > 42 ? 42 : shift;
  const int left = shift > 0 ? 0 : shift < -9 ? 9 : -shift;
  const long long odd = (product >> right) & 1;
  const long long rounded = (product + (1LL << (right - 1)) - 1 + odd) >> right;
  const long long small = product < -512 ? -512 : product > 512 ? 512 : product;
  const long long result = shift > 0 ? rounded : small * (1LL << left);
  return int(result < -512 ? -512 : result > 512 ? 512 : result);
}

template <class C>
typename Types<C>::Acts requant(const typename Types<C>::Accs &acc, const typename Types<C>::RequantRow &row,
                                int low, int high) {
  #pragma HLS INLINE
  typename Types<C>::Acts result;
Lane:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    const long long sum = static_cast<long long>(int(acc[lane])) + int(row.bias[lane]);
    const int value = shift_half_even(sum * int(row.mult[lane]), int(row.shift[lane]));
    result[lane] = typename Types<C>::Act(value < low ? low : value > high ? high : value);
  }
  return result;
}

}  // namespace codesign
