// stages/two_arrays.hpp -- the stages of a step, for an engine of two arrays: stages.hpp of its design.
#pragma once
#include "finish.hpp"
#include "load.hpp"
#include "middle.hpp"
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
  static const int kArrays = 2;
  typename Types<C>::DepthwiseWeights depthwise[2 * C::kWindowGroups];
  typename Types<C>::RequantRow window_requant[2 * C::kWindowGroups];
  typename Types<C>::Tile tiles[2 * C::kWeightTiles];
  typename Types<C>::RequantRow pointwise_requant[2 * C::kOutputWords];
  typename Types<C>::DepthwiseWeights middle[2 * C::kMiddleGroups];
  typename Types<C>::RequantRow middle_requant[2 * C::kMiddleGroups];
  typename Types<C>::Tile second_tiles[2 * C::kWeightTiles];
  typename Types<C>::RequantRow second_requant[2 * C::kOutputWords];
  typename Types<C>::TableRow tables[2 * C::kLanes][Types<C>::kTableRows];

  Parameters() {
    #pragma HLS ARRAY_PARTITION variable=tables complete dim=1
    CODESIGN_LARGE(tiles)
    CODESIGN_LARGE(depthwise)
    CODESIGN_LARGE(window_requant)
    CODESIGN_LARGE(second_tiles)
    CODESIGN_ONE_WORD(depthwise)
    CODESIGN_ONE_WORD(window_requant)
    CODESIGN_ONE_WORD(tiles)
    CODESIGN_ONE_WORD(pointwise_requant)
    CODESIGN_ONE_WORD(middle)
    CODESIGN_ONE_WORD(middle_requant)
    CODESIGN_ONE_WORD(second_tiles)
    CODESIGN_ONE_WORD(second_requant)
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
  typename Types<C>::Stream loaded("loaded"), windowed("windowed"), first("first"), forked("forked");
  typename Types<C>::Stream computed("computed"), chained("chained"), passed("passed"), fed("fed");
  typename Types<C>::Stream finished("finished"), joined("joined"), complete("complete");
  typename Types<C>::SumStream summed("summed"), second_summed("second_summed");
  typename Types<C>::OffsetStream reaches("reaches");
  hls::stream<typename Types<C>::Word> next_rows("next_rows"), next_tiles("next_tiles");
  hls::stream<typename Types<C>::Word> second_rows("second_rows"), second_tiles("second_tiles");
  hls::stream<typename Types<C>::Word> next_filters("next_filters"), middle_filters("middle_filters");
  hls::stream<typename Types<C>::Word> next_table("next_table");
  #pragma HLS STREAM variable=first depth=32
  #pragma HLS STREAM variable=forked depth=32
  #pragma HLS STREAM variable=next_table depth=32
  prefetch_both<C>(next, program_port, next_rows, second_rows, next_tiles, second_tiles, next_filters,
                   middle_filters, next_table);
  load<C>(step, load_segments, features, near, loaded);
  load_offsets<C>(step, offsets, steer, reaches);
  window<C>(step, next, half, loaded, reaches, next_filters, parameters.depthwise, parameters.window_requant,
            windowed);
  fork<C>(step, windowed, first, forked);
  pointwise<C, 0>(step, next, half, first, next_tiles, parameters.tiles, summed);
  finish<C, 0>(step, next, half, summed, next_rows, parameters.pointwise_requant, computed);
  middle<C>(step, next, half, computed, middle_filters, parameters.middle, parameters.middle_requant, chained,
            passed);
  feed<C>(step, forked, chained, fed);
  pointwise<C, 1>(step, next, half, fed, second_tiles, parameters.second_tiles, second_summed);
  finish<C, 1>(step, next, half, second_summed, second_rows, parameters.second_requant, finished);
  join<C>(step, passed, finished, joined);
  tail<C>(step, next, half, joined, next_table, parameters.tables, complete);
  store<C>(step, store_segments, complete, results, other_near, other_steer);
}

}  // namespace codesign
