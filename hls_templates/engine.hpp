// engine.hpp -- the walk over the steps of a program, one start a frame.
//
//   Load -> Window -> [requantize] -> Pointwise -> [Finish: requantize] -> Store
//
// Every stage can be passed through, so a step is a 1x1 convolution, a depthwise or deformable 3x3, both fused, a
// dense convolution, or a max-pool. All steps are checked before the first one runs: an illegal program changes
// nothing. Returns kDone, or the Status of the first illegal step plus 256 times (its index + 1).
// Cycles of a step: its slowest stage; they overlap, and so do the parameters of the step after it.
#pragma once
#include "descriptor.hpp"
#include "finish.hpp"
#include "load.hpp"
#include "parameters.hpp"
#include "pointwise.hpp"
#include "store.hpp"
#include "trace.hpp"
#include "vendor.hpp"
#include "window.hpp"

namespace codesign {

// What steps need on chip beside their streams: for the one that runs, and for the one after it.
template <class C>
struct Parameters {
  typename Types<C>::DepthwiseWeights depthwise[2 * C::kWindowGroups];
  typename Types<C>::RequantRow window_requant[2 * C::kWindowGroups];
  typename Types<C>::Tile tiles[2 * C::kWeightTiles];
  typename Types<C>::RequantRow pointwise_requant[2 * C::kOutputWords];
};

// Every parameter memory is used by one process alone, which reads one half of it and writes the other.
template <class C>
void run_step(const Step &step, const Step &next, int half, const Segment (&load_segments)[C::kMaxSegments],
              const Segment (&store_segments)[C::kMaxSegments], const typename Types<C>::Word *features,
              const typename Types<C>::Word *offsets, const typename Types<C>::Word *program_port,
              Parameters<C> &parameters, typename Types<C>::Word *results) {
  #pragma HLS DATAFLOW
  typename Types<C>::Stream loaded("loaded"), windowed("windowed"), computed("computed");
  typename Types<C>::SumStream summed("summed");
  typename Types<C>::OffsetStream reaches("reaches");
  hls::stream<typename Types<C>::Word> next_rows("next_rows"), next_tiles("next_tiles");
  hls::stream<typename Types<C>::Word> next_filters("next_filters");
  #pragma HLS STREAM variable=windowed depth=32
  prefetch<C>(next, program_port, next_rows, next_tiles, next_filters);
  load<C>(step, load_segments, features, loaded);
  load_offsets<C>(step, offsets, reaches);
  window<C>(step, next, half, loaded, reaches, next_filters, parameters.depthwise, parameters.window_requant,
            windowed);
  pointwise<C>(step, next, half, windowed, next_tiles, parameters.tiles, summed);
  finish<C>(step, next, half, summed, next_rows, parameters.pointwise_requant, computed);
  store<C>(step, store_segments, computed, results);
}

// A step that computes nothing: before the first step it brings that one's parameters, after the last none.
inline Step idle_step() {
  Step step = Step();
  step.width = step.groups = step.load_count = step.store_count = step.store_words = step.window_words = 1;
  return step;
}

// The four pointers are ports to one memory of `memory_words` words; `program` is the address of the header.
template <class C>
int run_program(const typename Types<C>::Word *features, const typename Types<C>::Word *offsets,
                const typename Types<C>::Word *program_port, typename Types<C>::Word *results, int program,
                int memory_words) {
  static_assert(C::kMaxOffset >= 1, "kMaxOffset must be at least 1: an ordinary 3x3 window reaches 1");
  static_assert(C::kRingRows >= 2 * C::kMaxOffset + 2, "kRingRows must be at least 2 * kMaxOffset + 2");
  static_assert(C::kMaxSegments >= 1, "kMaxSegments must be at least 1");
  Parameters<C> parameters;
  CODESIGN_LARGE(parameters.tiles)
  CODESIGN_LARGE(parameters.depthwise)
  CODESIGN_LARGE(parameters.window_requant)
  CODESIGN_ONE_WORD(parameters.depthwise)
  CODESIGN_ONE_WORD(parameters.window_requant)
  CODESIGN_ONE_WORD(parameters.tiles)
  CODESIGN_ONE_WORD(parameters.pointwise_requant)

  Header header;
  const Status found = read_header<C>(program_port, program, memory_words, header);
  if (found != kDone) return found;
  Step step = idle_step(), next;
  Segment load_segments[C::kMaxSegments], store_segments[C::kMaxSegments];
  Segment next_load_segments[C::kMaxSegments], next_store_segments[C::kMaxSegments];
Check:
  for (int i = 0; i < header.steps; ++i) {
    const Status status = read_step<C>(program_port, program, header, i, next, load_segments, store_segments);
    if (status != kDone) return status + 256 * (i + 1);
  }
Run:
  for (int i = -1; i < header.steps; ++i) {
    next = idle_step();
    if (i + 1 < header.steps) {
      const Status status =
          read_step<C>(program_port, program, header, i + 1, next, next_load_segments, next_store_segments);
      if (status != kDone) return status + 256 * (i + 2);
    }
    Trace::begin("step", i);
    run_step<C>(step, next, i & 1, load_segments, store_segments, features, offsets, program_port, parameters,
                results);
    Trace::end();
    step = next;
  Segments:
    for (int j = 0; j < C::kMaxSegments; ++j) {
      load_segments[j] = next_load_segments[j];
      store_segments[j] = next_store_segments[j];
    }
  }
  return kDone;
}

}  // namespace codesign
