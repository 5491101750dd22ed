// store.hpp -- from a stream to memory.
//
// For each pixel, row by row: for each segment: its words of that pixel. The lower eight bits of an activation
// are its byte in memory, signed or not. Cycles: words stored, at one a cycle.
#pragma once
#include "descriptor.hpp"

namespace codesign {

template <class C>
void store(const Step &step, const Segment (&segments)[C::kMaxSegments], typename Types<C>::Stream &in,
           typename Types<C>::Word *memory) {
  const int total = step.out_height * step.out_width * step.store_words;
  int pixel = 0, index = 0, word = 0;
Word:
  for (int i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    const typename Types<C>::Acts acts = in.read();
    typename Types<C>::Word bytes = Types<C>::Memory::zero();
  Lane:
    for (int lane = 0; lane < C::kLanes; ++lane) {
      #pragma HLS UNROLL
      Types<C>::Memory::set_byte(bytes, lane, unsigned(int(acts[lane])) & 255U);
    }
    const Segment &segment = segments[index];
    memory[segment.address + pixel * segment.stride + word] = bytes;
    if (++word == segment.count) {
      word = 0;
      if (++index == step.store_count) {
        index = 0;
        ++pixel;
      }
    }
  }
}

}  // namespace codesign
