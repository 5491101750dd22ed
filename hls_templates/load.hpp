// load.hpp -- from memory to streams: bursts first, order afterwards.
//
//   fetch          for each chunk: for each segment: its words of the chunk's pixels
//   arrange        for each pixel, row by row: for each segment: its words of that pixel
//   fetch_offsets  the words that hold offsets, as they are stored: in memory, or on chip
//   choose_offsets for each output pixel: one offset, limited to the step's reach; or the bytes of its taps, together,
//                  or of weights or gates, a word after the other
//   load, load_offsets  two of them each, as a region of their own
//
// A tensor is a list of segments, so that concatenation, slices and channel shuffles cost nothing: a consumer
// names the segments it wants, in any order. A segment stored at half the size is read with `up` = 1: pixel
// (y, x) comes from (y / 2, x / 2). A packed image is one segment whose rows are rows of words.
//
// Bursts: an inner loop reads memory[address + i] and nothing else, so that a tool makes one request of the whole
// run. A run is what a chunk holds of one segment; if the segment's pixels are not adjacent, it is one pixel. One
// segment that is not upsampled is in order already: the whole map is one chunk, and `arrange` passes its words on.
// Otherwise a chunk is load_pixels, of the whole map if nothing is upsampled, else of a row: many, and runs are long
// beside the memory's latency; few, and the first is soon there.
// Each is kept in its half of `held` while the next one arrives. Rows that upsampling repeats are fetched once if
// a chunk holds them.
//
// Cycles: words fetched, plus for each run the latency of the memory; words loaded, plus one chunk before the first.
// Memories: `held`, one read and one write a cycle.
#pragma once
#include "descriptor.hpp"
#include "trace.hpp"
#include "vendor.hpp"

namespace codesign {

// How the map that a step loads is cut.
template <class C>
struct Chunks {
  int rows, columns;  // of the map; a map that is not upsampled is one long row
  int pixels;         // of a chunk
  int repeats;        // log2: how often a row is used once it is fetched
  bool straight;      // the words are stored in the order in which they are used
};

template <class C>
Chunks<C> chunks_of(const Step &step, const Segment (&segments)[C::kMaxSegments]) {
  #pragma HLS INLINE
  Chunks<C> chunks;
  bool plain = true;
  int repeats = kSegmentUpMask;
Segment:
  for (int i = 0; i < step.load_count; ++i) {
    if (segments[i].up != 0) plain = false;
    repeats = smaller(repeats, segments[i].up);
  }
  const int columns = step.packed != 0 ? step.row_words : step.width;
  chunks.rows = plain ? 1 : step.height;
  chunks.columns = plain ? step.height * columns : columns;
  chunks.straight = plain && step.load_count == 1;
  chunks.pixels = chunks.columns;
  if (!chunks.straight) chunks.pixels = smaller(step.load_pixels, chunks.columns);
  chunks.repeats = chunks.pixels == chunks.columns ? repeats : 0;
  Trace::control(6);  // products
  return chunks;
}

// Pixels of a segment, as it is stored, that pixels [first, first + pixels) of a row come from.
inline int stored_pixels(const Segment &segment, int first, int pixels) {
  #pragma HLS INLINE
  return ((first + pixels - 1) >> segment.up) - (first >> segment.up) + 1;
}

template <class C>
void fetch(const Step &step, const Segment (&segments)[C::kMaxSegments],
           const typename Types<C>::Word *memory, const typename Types<C>::Word (&near)[C::kNearWords],
           hls::stream<typename Types<C>::Word> &out) {
  Trace::process("fetch");
  const Chunks<C> chunks = chunks_of<C>(step, segments);
Row:
  for (int y = 0; y < chunks.rows; y += 1 << chunks.repeats) {
  Chunk:
    for (int x = 0; x < chunks.columns; x += chunks.pixels) {
    Segment:
      for (int index = 0; index < step.load_count; ++index) {
        const Segment segment = segments[index];
        const int stored = stored_pixels(segment, x, smaller(chunks.pixels, chunks.columns - x));
        const bool adjacent = segment.stride == segment.count;
        const int runs = adjacent ? 1 : stored;
        const int words = adjacent ? stored * segment.count : segment.count;
        const int pixel = (y >> segment.up) * (chunks.columns >> segment.up) + (x >> segment.up);
        int address = segment.address + pixel * segment.stride;
        Trace::control(6);  // two products
      Run:
        for (int run = 0; run < runs; ++run) {
          if (C::kNearWords > 1 && segment.near) {  // a constant: without room there is no such loop
          Near:
            for (int i = 0; i < words; ++i) {
              #pragma HLS PIPELINE II=1
              Trace::iteration("Near", 1, 3, i == 0);
              Trace::read("near", step.near, address + i);
              out.write(near[address + i]);
            }
          } else {
          Word:
            for (int i = 0; i < words; ++i) {
              #pragma HLS PIPELINE II=1
              Trace::iteration("Word", 1, 3, i == 0);
              Trace::fetch("features", address + i);
              out.write(memory[address + i]);
            }
          }
          address += segment.stride;
        }
      }
    }
  }
}

template <class C>
typename Types<C>::Acts unpack(const typename Types<C>::Word &word, bool is_signed) {
  #pragma HLS INLINE
  typename Types<C>::Acts acts;
  const int sign = is_signed ? 128 : 0;
Lane:
  for (int lane = 0; lane < C::kLanes; ++lane) {
    #pragma HLS UNROLL
    acts[lane] = typename Types<C>::Act((int(Types<C>::Memory::byte(word, lane)) ^ sign) - sign);
  }
  return acts;
}

template <class C>
void arrange(const Step &step, const Segment (&segments)[C::kMaxSegments],
             hls::stream<typename Types<C>::Word> &in, typename Types<C>::Stream &out) {
  Trace::process("arrange");
  const Chunks<C> chunks = chunks_of<C>(step, segments);
  if (chunks.straight) {
    const int total = chunks.columns * step.groups;
  Straight:
    for (int i = 0; i < total; ++i) {
      #pragma HLS PIPELINE II=1
      Trace::iteration("Straight", 1, 2, i == 0);
      out.write(unpack<C>(in.read(), segments[0].is_signed));
    }
    return;
  }

  typename Types<C>::Word held[2 * ChunkSize<C>::kWords];
  CODESIGN_IN_BRAM(held)
  int base[C::kMaxSegments];      // where the words of a segment lie in a chunk
  int arriving[C::kMaxSegments];  // how many of them the next chunk has
  int words = 0;
Base:
  for (int i = 0; i < C::kMaxSegments; ++i) {
    base[i] = words;
    if (i < step.load_count) words += chunks.pixels * segments[i].count;
  }
  Trace::control(6 + 2 * step.load_count);  // products
  int to = 0, from = ChunkSize<C>::kWords;
  int x = 0, y = 0, first = 0, pixels = 0;  // where the next chunk begins; that which is kept, and its size
  const int most = chunks.columns * chunks.rows;  // chunks of a pixel each
  bool ends = false;
Chunk:
  for (int chunk = 0; chunk <= most && !ends; ++chunk) {
    const int next = y < chunks.rows ? smaller(chunks.pixels, chunks.columns - x) : 0;
    ends = next == 0;
    int fetch_words = 0;
  Arriving:
    for (int i = 0; i < step.load_count; ++i) {
      arriving[i] = next > 0 ? stored_pixels(segments[i], x, next) * segments[i].count : 0;
      fetch_words += arriving[i];
    }
    const int emit_words = (pixels * step.groups) << chunks.repeats;
    const int trips = larger(fetch_words, emit_words);
    Trace::control(6 + 2 * step.load_count);  // products
    int fill = 0, filled = 0;                 // segment and word that arrive
    int pixel = 0, index = 0, word = 0;       // pixel, segment and word that leave
  Word:
    for (int i = 0; i < trips; ++i) {
      #pragma HLS PIPELINE II=1
      #pragma HLS DEPENDENCE variable=held inter false
      Trace::iteration("Word", 1, 8, i == 0);
      if (i < fetch_words) {
        Trace::write("held", 0, to + base[fill] + filled);
        held[to + base[fill] + filled] = in.read();
        if (++filled == arriving[fill]) {
          filled = 0;
          ++fill;
        }
      }
      if (i < emit_words) {
        const Segment &segment = segments[index];
        const int stored = ((first + pixel) >> segment.up) - (first >> segment.up);
        const int at = from + base[index] + stored * segment.count + word;
        Trace::read("held", 0, at);
        out.write(unpack<C>(held[at], segment.is_signed));
        if (++word == segment.count) {
          word = 0;
          if (++index == step.load_count) {
            index = 0;
            if (++pixel == pixels) pixel = 0;
          }
        }
      }
    }
    first = x;
    pixels = next;
    x += next;
    if (x == chunks.columns) {
      x = 0;
      y += 1 << chunks.repeats;
    }
    const int half = from;
    from = to;
    to = half;
  }
}

template <class C>
void load(const Step &step, const Segment (&segments)[C::kMaxSegments], const typename Types<C>::Word *memory,
          const typename Types<C>::Word (&near)[C::kNearWords], typename Types<C>::Stream &out) {
  #pragma HLS DATAFLOW
  hls::stream<typename Types<C>::Word> fetched("fetched");
  #pragma HLS STREAM variable=fetched depth=32
  fetch<C>(step, segments, memory, near, fetched);
  arrange<C>(step, segments, fetched, out);
}

template <class C>
void fetch_offsets(const Step &step, const typename Types<C>::Word *memory,
                   const typename Types<C>::Word (&steer)[C::kSteerWords],
                   hls::stream<typename Types<C>::Word> &out) {
  Trace::process("fetch_offsets");
  if (!is_steered(step)) return;
  const Segment &offset = step.offset;
  const int height = steered_height(step), width = steered_width(step);
  const int rows = offset.up == 0 ? 1 : height;
  const int columns = offset.up == 0 ? height * width : width >> offset.up;
  const bool adjacent = offset.stride == offset.count;
  const int runs = adjacent ? 1 : columns, words = adjacent ? columns * offset.count : offset.count;
Row:
  for (int y = 0; y < rows; ++y) {
    int address = offset.address + (y >> offset.up) * columns * offset.stride;
    Trace::control(6);  // products
  Run:
    for (int run = 0; run < runs; ++run) {
      if (C::kSteerWords > 1 && offset.near) {
      Near:
        for (int i = 0; i < words; ++i) {
          #pragma HLS PIPELINE II=1
          Trace::iteration("Near", 1, 3, i == 0);
          Trace::read("steer", step.steer, address + i);
          out.write(steer[address + i]);
        }
      } else {
      Word:
        for (int i = 0; i < words; ++i) {
          #pragma HLS PIPELINE II=1
          Trace::iteration("Word", 1, 3, i == 0);
          Trace::fetch("offsets", address + i);
          out.write(memory[address + i]);
        }
      }
      address += offset.stride;
    }
  }
}

template <class C>
void choose_offsets(const Step &step, hls::stream<typename Types<C>::Word> &in,
                    typename Types<C>::OffsetStream &out) {
  Trace::process("choose_offsets");
  if (!is_steered(step)) return;
  const int mask = (1 << step.offset.up) - 1, words = step.offset.count;
  const int width = steered_width(step), total = steered_height(step) * width * words;
  typename Types<C>::Numbers numbers = zeros<typename Types<C>::Numbers>();
  const bool varied = C::kWeightStream > 0 && step.window == kVaried, wordwise = varied || is_mixed(step);
  int x = 0, index = 0;
Word:
  for (int i = 0; i < total; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Word", 1, 2, i == 0);
    if ((x & mask) == 0) {  // else what was read for the pixel before
      const typename Types<C>::Word word = in.read();
      if (step.window == kDeformable) {
        numbers[0] = smaller(int(Types<C>::Memory::byte(word, step.offset_lane)), step.reach);
      } else {
      Lane:
        for (int lane = 0; lane < C::kLanes; ++lane) {
          #pragma HLS UNROLL
          const int at = (wordwise ? 0 : index * C::kLanes) + lane;
          if (at < Types<C>::kNumbers) numbers[at] = Types<C>::Memory::byte(word, lane);
        }
      }
    }
    if (wordwise || index + 1 == words) out.write(numbers);
    if (++index == words) {
      index = 0;
      if (++x == width) x = 0;
    }
  }
}

template <class C>
void load_offsets(const Step &step, const typename Types<C>::Word *memory,
                  const typename Types<C>::Word (&steer)[C::kSteerWords],
                  typename Types<C>::OffsetStream &out) {
  #pragma HLS DATAFLOW
  hls::stream<typename Types<C>::Word> fetched_offsets("fetched_offsets");
  #pragma HLS STREAM variable=fetched_offsets depth=32
  fetch_offsets<C>(step, memory, steer, fetched_offsets);
  choose_offsets<C>(step, fetched_offsets, out);
}

}  // namespace codesign
