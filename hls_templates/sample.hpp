// sample.hpp -- one tap of a sampled or varied window: where it looks, and what it adds.
//
// Taps are 3x3, a row or a column of nine, or one. With a border, coordinates are limited to the map first, then split
// into a pixel and a fraction. Of a varied window the numbers are not offsets but weights: it looks at the pixels
// themselves.
// A sampled tap reads its four pixels as the lower right of three columns of three; reach is 1 + the bound on offsets,
// since a fraction only ever lies before the last pixel. What is read beyond that has no share.
#pragma once
#include "ring.hpp"
#include "vendor.hpp"

namespace codesign {

// Where a tap looks, from the pixel itself, and the shares of the right column and of the lower row in kOne.
template <class C>
struct Sample {
  static const int kBits = C::kSampler > 1 ? C::kSampler - 1 : 0, kOne = 1 << kBits;
  int row, column;
  typename Unsigned<kBits + 1>::type down, right;
  typename Signed<8>::type mask;
};

template <class C>
Sample<C> sample_of(const Step &step, const Place &at, const typename Types<C>::Numbers &numbers, int tap) {
  #pragma HLS INLINE
  static const bool kShapes =
      C::kSamplerShapes > 0;  // otherwise there is 3x3 alone, and nothing has a border
  const int taps = kShapes ? step.taps : int(kSquare);
  const int one = 1 << step.grid, most = one - 1;
  const int limit = step.window == kVaried ? 0 : (step.reach - (kShapes ? tap_rows(step) : 1)) * one;
  const int dy = (int(numbers[2 * tap % Types<C>::kNumbers]) ^ 128) - 128;
  const int dx = (int(numbers[(2 * tap + 1) % Types<C>::kNumbers]) ^ 128) - 128;
  const int first = kShapes && step.still != 0 ? 0 : taps == kOneTap ? 2 : 18;  // of the masks
  const int mask = (int(numbers[(first + tap) % Types<C>::kNumbers]) ^ 128) - 128;
  const int i = taps == kSquare ? tap / 3 - 1 : taps == kTapColumn ? tap - 4 : 0;
  const int j = taps == kSquare ? tap % 3 - 1 : taps == kTapRow ? tap - 4 : 0;
  int y = larger(smaller(dy, limit), -limit) + i * one, x = larger(smaller(dx, limit), -limit) + j * one;
  if (kShapes && step.border != 0) {
    y = larger(smaller(y, (at.height - 1 - at.y) * one), -at.y * one);
    x = larger(smaller(x, (at.width - 1 - at.x) * one), -at.x * one);
  }
  const int finer = Sample<C>::kBits - step.grid;
  Sample<C> sample;
  sample.row = y >> step.grid;
  sample.column = x >> step.grid;
  sample.down = Sample<C>::kBits > 0 ? (y & most) << finer : 0;
  sample.right = Sample<C>::kBits > 0 ? (x & most) << finer : 0;
  sample.mask = step.masked != 0 ? larger(smaller(mask, step.mask_high), step.mask_low) : 1;
  return sample;
}

// Adds one tap: four neighbours by their shares, a mask, and a weight. Everything is exact.
template <class C>
void add_sample(const Step &step, const Taps<C> &taps, const Sample<C> &sample,
                const typename Types<C>::DepthwiseWeights &weights, const typename Types<C>::Numbers &numbers,
                int tap, typename Types<C>::WideSums &sum) {
  #pragma HLS INLINE
  const bool varied = C::kWeightStream > 0 && step.window == kVaried;
  static const int kBits = Sample<C>::kBits, kOne = Sample<C>::kOne;
  const int finer = 2 * (kBits - step.grid);
Lane:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    const int a = int(taps.word[1][1][lane]), b = int(taps.word[1][2][lane]);
    const int c = int(taps.word[2][1][lane]), d = int(taps.word[2][2][lane]);
    const typename Signed<10>::type upper = b - a, lower = d - c;
    const typename Signed<11 + kBits>::type along = upper * sample.right;
    CODESIGN_IN_LUTS(along)
    const typename Signed<11 + kBits>::type below = lower * sample.right;
    CODESIGN_IN_LUTS(below)
    const typename Signed<10 + kBits>::type top = a * kOne + along, bottom = c * kOne + below;
    const typename Signed<11 + kBits>::type height = bottom - top;
    const typename Signed<12 + 2 * kBits>::type across = height * sample.down;
    CODESIGN_IN_LUTS(across)
    const typename Signed<10 + 2 * kBits>::type mixed = (top * kOne + across) >> finer;
    const int own = (int(numbers[lane % Types<C>::kNumbers]) ^ 128) - 128;
    const typename Signed<8>::type tap_weight = varied ? own : int(weights.tap[tap][lane]);
    const typename Signed<16>::type weight = tap_weight * sample.mask;
    CODESIGN_IN_LUTS(weight)
    const typename Signed<32>::type product = mixed * weight;
    CODESIGN_IN_LUTS(product)
    sum[lane] += product;
  }
}

}  // namespace codesign
