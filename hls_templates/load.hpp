// load.hpp -- from memory to streams.
//
//   load          for each pixel, row by row: for each segment: its words of that pixel
//   load_offsets  for each output pixel: one offset, limited to the step's reach
//
// A tensor is a list of segments, so that concatenation, slices and channel shuffles cost nothing: a consumer
// names the segments it wants, in any order. A segment stored at half the size is read with `up` = 1: pixel
// (y, x) comes from (y / 2, x / 2). A packed image is one segment whose rows are kRowWords-long rows of words.
// Cycles: words loaded, and pixels, at one a cycle.
#pragma once
#include "descriptor.hpp"

namespace codesign {

template <class C>
typename Types<C>::Acts unpack(const typename Types<C>::Word &word, bool is_signed) {
  #pragma HLS INLINE
  typename Types<C>::Acts acts;
Lane:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    const int byte = int(Types<C>::Memory::byte(word, lane));
    acts[lane] = typename Types<C>::Act(is_signed ? (byte ^ 128) - 128 : byte);
  }
  return acts;
}

template <class C>
void load(const Step &step, const Segment (&segments)[C::kMaxSegments], const typename Types<C>::Word *memory,
          typename Types<C>::Stream &out) {
  const int columns = step.packed != 0 ? step.row_words : step.width;
  const int total = step.height * columns * step.groups;
  int y = 0, x = 0, index = 0, word = 0;
Word:
  for (int i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    const Segment &segment = segments[index];
    const int pixel = (y >> segment.up) * (columns >> segment.up) + (x >> segment.up);
    out.write(unpack<C>(memory[segment.address + pixel * segment.stride + word], segment.is_signed));
    if (++word == segment.count) {
      word = 0;
      if (++index == step.load_count) {
        index = 0;
        if (++x == columns) {
          x = 0;
          ++y;
        }
      }
    }
  }
}

template <class C>
void load_offsets(const Step &step, const typename Types<C>::Word *memory,
                  typename Types<C>::OffsetStream &out) {
  if (step.window != kDeformable) return;
Row:
  for (int y = 0; y < step.out_height; ++y) {
  Pixel:
    for (int x = 0; x < step.out_width; ++x) {
      #pragma HLS PIPELINE II=1
      const int up = step.offset.up;
      const int pixel = (y >> up) * (step.out_width >> up) + (x >> up);
      const typename Types<C>::Word word = memory[step.offset.address + pixel * step.offset.stride];
      const int value = int(Types<C>::Memory::byte(word, step.offset_lane));
      out.write(typename Types<C>::Offset(smaller(value, step.reach)));
    }
  }
}

}  // namespace codesign
