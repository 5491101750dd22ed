// stages/one_array.hpp -- the stages of a step, for an engine of one array: stages.hpp of its design.
#pragma once
#include "finish.hpp"
#include "load.hpp"
#include "parameters.hpp"
#include "pointwise.hpp"
#include "store.hpp"
#include "tail.hpp"
#include "vendor.hpp"
#include "window.hpp"

namespace codesign {

// What steps need on chip beside their streams: for the one that runs, and for the one after it. Every memory is used
// by one process alone, which reads one half of it and writes the other.
template <class C>
struct Parameters {
  static const int kArrays = 1;
  typename Types<C>::DepthwiseWeights depthwise[2 * C::kWindowGroups];
  typename Types<C>::RequantRow window_requant[2 * C::kWindowGroups];
  typename Types<C>::Tile tiles[2 * C::kWeightTiles];
  typename Types<C>::RequantRow pointwise_requant[2 * C::kOutputWords];
  typename Types<C>::TableRow tables[2 * C::kLanes][Types<C>::kTableRows];

  Parameters() {
    #pragma HLS ARRAY_PARTITION variable=tables complete dim=1
    CODESIGN_LARGE(tiles)
    CODESIGN_LARGE(depthwise)
    CODESIGN_LARGE(window_requant)
    CODESIGN_ONE_WORD(depthwise)
    CODESIGN_ONE_WORD(window_requant)
    CODESIGN_ONE_WORD(tiles)
    CODESIGN_ONE_WORD(pointwise_requant)
    CODESIGN_ONE_WORD(tables)
  }
};

template <class C>
void run_step(const Step &step, const Step &next, int half, const Segment (&load_segments)[C::kMaxSegments],
              const Segment (&store_segments)[C::kMaxSegments], const typename Types<C>::Word *features,
              const typename Types<C>::Word *offsets, const typename Types<C>::Word *program_port,
              Parameters<C> &parameters, const typename Types<C>::Word (&near)[C::kNearWords],
              typename Types<C>::Word (&other_near)[C::kNearWords],
              const typename Types<C>::Word (&steer)[C::kSteerWords],
              typename Types<C>::Word (&other_steer)[C::kSteerWords], typename Types<C>::Word *results) {
  #pragma HLS DATAFLOW
  typename Types<C>::Stream loaded("loaded"), windowed("windowed"), computed("computed");
  typename Types<C>::Stream complete("complete");
  typename Types<C>::SumStream summed("summed");
  typename Types<C>::OffsetStream reaches("reaches");
  hls::stream<typename Types<C>::Word> next_rows("next_rows"), next_tiles("next_tiles");
  hls::stream<typename Types<C>::Word> next_filters("next_filters"), next_table("next_table");
  #pragma HLS STREAM variable=windowed depth=32
  #pragma HLS STREAM variable=next_table depth=32
  prefetch<C>(next, program_port, next_rows, next_tiles, next_filters, next_table);
  load<C>(step, load_segments, features, near, loaded);
  load_offsets<C>(step, offsets, steer, reaches);
  window<C>(step, next, half, loaded, reaches, next_filters, parameters.depthwise, parameters.window_requant,
            windowed);
  pointwise<C, 0>(step, next, half, windowed, next_tiles, parameters.tiles, summed);
  finish<C, 0>(step, next, half, summed, next_rows, parameters.pointwise_requant, computed);
  tail<C>(step, next, half, computed, next_table, parameters.tables, complete);
  store<C>(step, store_segments, complete, results, other_near, other_steer);
}

}  // namespace codesign
