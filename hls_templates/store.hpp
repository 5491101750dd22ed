// store.hpp -- from a stream to memory: order first, bursts afterwards.
//
//   collect  for each chunk: for each segment: the words of it in the chunk's pixels
//   emit     the same words, to memory
//   store    both, as a region of their own
//
// The lower eight bits of an activation are its byte in memory, signed or not. What arrives is ordered by pixels:
// for each pixel, row by row: for each segment: its words. One segment needs no other order, so that the whole map is
// one chunk. Otherwise a chunk is store_pixels; it is kept in its half of `ordered` while the next one arrives.
//
// Bursts: the inner loop of `emit` writes memory[address + i] and nothing else, so that a tool makes one request of
// the whole run: what a chunk holds of one segment or, if the segment's pixels are not adjacent, one pixel.
//
// Cycles: words stored, at one a cycle; in addition, for each run the latency of the memory, and with several segments
// one chunk after the last word has arrived. Memories: `ordered`, one read and one write a cycle.
#pragma once
#include "descriptor.hpp"
#include "trace.hpp"
#include "vendor.hpp"

namespace codesign {

// Pixels of a chunk.
template <class C>
int stored_together(const Step &step) {
  #pragma HLS INLINE
  const int all = step.stored_height * step.stored_width;
  Trace::control(4);  // a product
  return step.store_count > 1 ? smaller(step.store_pixels, all) : all;
}

template <class C>
void collect(const Step &step, const Segment (&segments)[C::kMaxSegments], typename Types<C>::Stream &in,
             typename Types<C>::Stream &out) {
  Trace::process("collect");
  const int all = step.stored_height * step.stored_width;
  if (step.store_count == 1) {
    const int total = all * step.store_words;
  Straight:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      Trace::iteration("Straight", 1, 1, i == 0);
      out.write(in.read());
    }
    return;
  }

  typename Types<C>::Acts ordered[2 * ChunkSize<C>::kWords];
  CODESIGN_ONE_WORD(ordered)
  CODESIGN_IN_BRAM(ordered)
  const int most = stored_together<C>(step);
  int to = 0, from = ChunkSize<C>::kWords, pixels = 0;
Chunk:
  for (int first = 0; first < all + most; first += most) {
    const int next = first < all ? smaller(most, all - first) : 0;
    const int keep_words = next * step.store_words, emit_words = pixels * step.store_words;
    const int trips = larger(keep_words, emit_words);
    Trace::control(6);                // products
    int index = 0, begin = 0;         // segment that leaves, and its first word in a pixel
    int pixel = 0, at = 0, word = 0;  // pixel, its first word, and the word that leaves
  Word:
    for (int i = 0; i < trips; ++i) {
      #pragma HLS PIPELINE II=1
      #pragma HLS DEPENDENCE variable=ordered inter false
      Trace::iteration("Word", 1, 4, i == 0);
      if (i < keep_words) {
        Trace::write("ordered", 0, to + i);
        ordered[to + i] = in.read();
      }
      if (i < emit_words) {
        Trace::read("ordered", 0, from + at + begin + word);
        out.write(ordered[from + at + begin + word]);
        if (++word == segments[index].count) {
          word = 0;
          at += step.store_words;
          if (++pixel == pixels) {
            pixel = at = 0;
            begin += segments[index].count;
            ++index;
          }
        }
      }
    }
    pixels = next;
    const int half = from;
    from = to;
    to = half;
  }
}

// The bytes of a word in memory.
template <class C>
typename Types<C>::Word packed(const typename Types<C>::Acts &acts) {
  #pragma HLS INLINE
  typename Types<C>::Word bytes = Types<C>::Memory::zero();
Lane:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    Types<C>::Memory::set_byte(bytes, lane, unsigned(int(acts[lane])) & 255U);
  }
  return bytes;
}

template <class C>
void emit(const Step &step, const Segment (&segments)[C::kMaxSegments], typename Types<C>::Stream &in,
          typename Types<C>::Word *memory, typename Types<C>::Word (&near)[C::kNearWords],
          typename Types<C>::Word (&steer)[C::kSteerWords]) {
  Trace::process("emit");
  const int all = step.stored_height * step.stored_width, most = stored_together<C>(step);
Chunk:
  for (int first = 0; first < all; first += most) {
    const int pixels = smaller(most, all - first);
  Segment:
    for (int index = 0; index < step.store_count; ++index) {
      const Segment segment = segments[index];
      const bool adjacent = segment.stride == segment.count;
      const int runs = adjacent ? 1 : pixels;
      const int words = adjacent ? pixels * segment.count : segment.count;
      int address = segment.address + first * segment.stride;
      Trace::control(6);  // two products
    Run:
      for (int run = 0; run < runs; ++run) {
        if (C::kNearWords > 1 && segment.near) {
        Near:
          for (int i = 0; i < words; ++i) {
            #pragma HLS PIPELINE II=1
            Trace::iteration("Near", 1, 3, i == 0);
            Trace::write("near", 1 - step.near, address + i);
            near[address + i] = packed<C>(in.read());
          }
        } else if (C::kSteerWords > 1 && segment.steers) {
        Steer:
          for (int i = 0; i < words; ++i) {
            #pragma HLS PIPELINE II=1
            Trace::iteration("Steer", 1, 3, i == 0);
            Trace::write("steer", 1 - step.steer, address + i);
            steer[address + i] = packed<C>(in.read());
          }
        } else {
        Word:
          for (int i = 0; i < words; ++i) {
            #pragma HLS PIPELINE II=1
            Trace::iteration("Word", 1, 3, i == 0);
            Trace::put("results", address + i);
            memory[address + i] = packed<C>(in.read());
          }
        }
        address += segment.stride;
      }
    }
  }
}

template <class C>
void store(const Step &step, const Segment (&segments)[C::kMaxSegments], typename Types<C>::Stream &in,
           typename Types<C>::Word *memory, typename Types<C>::Word (&near)[C::kNearWords],
           typename Types<C>::Word (&steer)[C::kSteerWords]) {
  #pragma HLS DATAFLOW
  typename Types<C>::Stream collected("collected");
  #pragma HLS STREAM variable=collected depth=32
  collect<C>(step, segments, in, collected);
  emit<C>(step, segments, collected, memory, near, steer);
}

}  // namespace codesign
