// requant.hpp -- from accumulator to 8-bit activation, per channel.
//
//   y = clamp(RHE((acc + bias) * mult, shift), low, high)
//   RHE(p, n) = p / 2^n rounded half to even for n > 0, p * 2^-n otherwise
//
// numbers.hpp gives the factor mult * 2^-shift and applies it, for every 8-bit mult and shift; wide rows: rows.hpp.
// Pure arithmetic, used inside the loops of window.hpp, middle.hpp and finish.hpp at one word a cycle.
#pragma once
#include "types.hpp"

namespace codesign {

template <class C>
typename Types<C>::Acts requant(const typename Types<C>::Accs &acc, const typename Types<C>::RequantRow &row,
                                int low, int high) {
  #pragma HLS INLINE
  typename Types<C>::Acts result;
Lane:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    result[lane] = typename Types<C>::Act(row.code(lane, acc[lane], low, high));
  }
  return result;
}

}  // namespace codesign
