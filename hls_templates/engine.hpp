// engine.hpp -- the walk over the steps of a program, one start a frame.
//
//   Load -> Window -> [requantize] -> Pointwise -> [Finish: requantize] -> Store
//
// Every stage can be passed through, so a step is a 1x1 convolution, a depthwise or deformable 3x3, both fused, a
// dense convolution, or a max-pool. All steps are checked before the first one runs: an illegal program changes
// nothing. Returns kDone, or the Status of the first illegal step plus 256 times (its index + 1).
// Cycles of a step: its parameters, then the slowest of its stages (they overlap).
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

// What a step needs on chip beside its streams.
template <class C>
struct Parameters {
  typename Types<C>::DepthwiseWeights depthwise[C::kWindowGroups];
  typename Types<C>::RequantRow window_requant[C::kWindowGroups];
  typename Types<C>::Tile tiles[C::kWeightTiles];
  typename Types<C>::RequantRow pointwise_requant[C::kOutputWords];
};

template <class C>
void load_parameters(const Step &step, const typename Types<C>::Word *memory, Parameters<C> &parameters) {
  if (step.window == kDepthwise || step.window == kDeformable) {
    const int address = step.window_parameters;
    load_depthwise<C>(memory, address, step.groups, parameters.depthwise);
    load_requant<C>(memory, address + step.groups * 9, step.groups, parameters.window_requant);
  }
  if (step.pointwise != kNoPointwise) {
    const int address = step.pointwise_parameters;
    const int tiles = step.pointwise * step.pointwise_in * step.pointwise_out;
    load_tiles<C>(memory, address, tiles, step.pointwise == kInt8, parameters.tiles);
    load_requant<C>(memory, address + tiles * ((C::kLanes + 1) / 2), step.pointwise_out,
                    parameters.pointwise_requant);
  }
}

template <class C>
void run_step(const Step &step, const Segment (&load_segments)[C::kMaxSegments],
              const Segment (&store_segments)[C::kMaxSegments], const typename Types<C>::Word *features,
              const typename Types<C>::Word *offsets, const Parameters<C> &parameters,
              typename Types<C>::Word *results) {
  #pragma HLS DATAFLOW
  typename Types<C>::Stream loaded("loaded"), windowed("windowed"), computed("computed");
  typename Types<C>::SumStream summed("summed");
  typename Types<C>::OffsetStream reaches("reaches");
  load<C>(step, load_segments, features, loaded);
  load_offsets<C>(step, offsets, reaches);
  window<C>(step, loaded, reaches, parameters.depthwise, parameters.window_requant, windowed);
  pointwise<C>(step, windowed, parameters.tiles, summed);
  finish<C>(step, summed, parameters.pointwise_requant, computed);
  store<C>(step, store_segments, computed, results);
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
  CODESIGN_ONE_WORD(parameters.depthwise)
  CODESIGN_ONE_WORD(parameters.window_requant)
  CODESIGN_ONE_WORD(parameters.tiles)
  CODESIGN_ONE_WORD(parameters.pointwise_requant)

  Header header;
  const Status found = read_header<C>(program_port, program, memory_words, header);
  if (found != kDone) return found;
  Step step;
  Segment load_segments[C::kMaxSegments], store_segments[C::kMaxSegments];
Check:
  for (int i = 0; i < header.steps; ++i) {
    const Status status = read_step<C>(program_port, program, header, i, step, load_segments, store_segments);
    if (status != kDone) return status + 256 * (i + 1);
  }
Run:
  for (int i = 0; i < header.steps; ++i) {
    const Status status = read_step<C>(program_port, program, header, i, step, load_segments, store_segments);
    if (status != kDone) return status + 256 * (i + 1);
    Trace::begin("parameters", i);
    load_parameters<C>(step, program_port, parameters);
    Trace::end();
    Trace::begin("step", i);
    run_step<C>(step, load_segments, store_segments, features, offsets, parameters, results);
    Trace::end();
  }
  return kDone;
}

}  // namespace codesign
