// wordwise.hpp -- what hardware computes word by word is computed word by word, in all builds but the fastest.
//
// There are three files called whole.hpp. The include path chooses one: exact/ and native/ take this one, whose answer
// is always no; sim/whole/ computes a whole step at once and says yes. Equal bits, other schedule.
#pragma once
#include "layout.hpp"

namespace codesign {

template <class C>
struct Whole {
  // Whether all sums of a step have been computed, from all words of `in`, and written to `out`.
  static bool product(const Matrix &, int, int, const typename Types<C>::Tile (&)[2 * C::kWeightTiles],
                      typename Types<C>::Stream &, typename Types<C>::SumStream &) {
    #pragma HLS INLINE
    return false;
  }
};

}  // namespace codesign
