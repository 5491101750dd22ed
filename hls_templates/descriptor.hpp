// descriptor.hpp -- reading the program, and the checks every field passes before anything runs.
//
// Everything the program occupies lies in [program, program + kProgramWords); every tensor lies in the arena, which the
// program does not overlap. After the checks no address that a unit forms from a step can leave those two regions, and
// every loop ends.
#pragma once
#include "branch.hpp"
#include "segments.hpp"
#include "trace.hpp"

namespace codesign {

inline bool is_clamp(int low, int high) { return in_range(low, -128, 255) && in_range(high, -128, 255); }

template <class C>
Status check_global(const Step &step) {
  if (C::kGlobalWords == 0 || step.packed != 0) return kBadGlobal;
  if (step.out_height != 1 || step.out_width != 1 || step.height * step.width > kMaxSummed) return kBadGlobal;
  if (step.groups > smaller(C::kGlobalWords, C::kWindowGroups)) return kBadGlobal;
  return is_clamp(step.window_low, step.window_high) ? kDone : kBadClamp;
}

template <class C>
Status check_mix(const Step &step) {
  if (C::kMixer == 0 || step.packed != 0 || !in_range(step.mix, kMixMaps, kMixInt8)) return kBadMix;
  if (!in_range(step.parts, 1, kMaxParts) || !in_range(step.threshold, 0, 256)) return kBadMix;
  if (step.parts * step.window_words != step.groups || step.offset.count > C::kMixer) return kBadMix;
  if (rows_of_window(step) > C::kWindowGroups) return kBadMix;
  if (mixes_weights(step)) {
    const int lanes = step.width / C::kLanes, words = lanes * ((C::kLanes + 1) / 2);
    if (step.window_words != 1 || lanes * C::kLanes != step.width) return kBadMix;
    if (step.out_height != step.height || step.out_width != (step.mix - kMixPick) * words) return kBadMix;
  } else {
    if (step.groups > C::kMixer) return kBadMix;
    if (step.out_height != step.height || step.out_width != step.width) return kBadMix;
  }
  return is_clamp(step.window_low, step.window_high) ? kDone : kBadClamp;
}

template <class C>
Status check_window(const Step &step) {
  if (step.window == kGlobal) return check_global<C>(step);
  if (step.window == kMix) return check_mix<C>(step);
  if (!in_range(step.window, kPass, kVaried)) return kBadWindow;
  if (step.window == kSample && C::kSampler == 0) return kBadWindow;
  if (step.window == kVaried && C::kWeightStream == 0) return kBadWindow;
  if (step.window == kPass) {
    const bool same = step.out_height == step.height && step.out_width == step.width;
    return same && step.packed == 0 ? kDone : kBadWindow;
  }
  if (!in_range(step.stride_y, 1, 4) || !in_range(step.stride_x, 1, 4)) return kBadWindow;
  const bool deformable = step.window == kDeformable;
  const bool sampled = step.window == kSample, filter = is_filter(step);
  const int largest = step.window == kGather && step.packed == 0 ? kMaxKernel : 3;
  if (!in_range(step.kernel, filter ? 3 : 1, largest)) return kBadWindow;
  const int beside = step.kernel > 3 ? 2 : 1;  // of the centre, to the first tap
  const int farthest = deformable || sampled ? C::kMaxOffset : beside;
  const int nearest = deformable ? 0 : sampled ? tap_rows(step) : beside;
  if (!in_range(step.reach, nearest, farthest)) return kBadWindow;
  if (sampled) {
    if (!in_range(step.grid, 0, C::kSampler - 1)) return kBadSample;
    if (C::kSamplerShapes == 0 && (step.border != 0 || step.taps != kSquare || step.still != 0))
      return kBadSample;
    if (step.still != 0 && (step.reach != nearest || step.masked == 0)) return kBadSample;
    if ((step.reach - nearest) << step.grid > 127) return kBadSample;
    if (step.border != 0) {  // what is limited to the map from outside may be farther than the reach
      const long long y = step.origin_y + (step.out_height - 1LL) * step.stride_y;
      const long long x = step.origin_x + (step.out_width - 1LL) * step.stride_x;
      if (step.origin_y < 0 || step.origin_x < 0 || y >= step.height || x >= step.width) return kBadSample;
    }
    if (!in_range(step.mask_low, -128, 127) || !in_range(step.mask_high, -128, 127)) return kBadSample;
  }
  if (!in_range(step.origin_y, -beside, beside) || !in_range(step.origin_x, -beside, beside))
    return kBadWindow;
  if (step.packed != 0 && step.window != kGather) return kBadWindow;
  if (step.row_words > C::kRowWords << step.spread) return kBadRow;
  if (2 * step.reach + 1 + step.stride_y > C::kRingRows) return kBadRow;
  if (filter && step.groups > C::kWindowGroups) return kBadRow;
  if (!in_range(step.window_low, -128, 255) || !in_range(step.window_high, -128, 255)) return kBadClamp;
  return kDone;
}

template <class C>
Status check_matrix(const Matrix &matrix) {
  if (!in_range(matrix.mode, kNoPointwise, kInt8)) return kBadPointwise;
  if (matrix.mode == kNoPointwise) return kDone;
  if (!in_range(matrix.in, 1, C::kInputWords)) return kBadPointwise;
  if (!in_range(matrix.out, 1, C::kOutputWords)) return kBadPointwise;
  if (matrix.mode * matrix.in * matrix.out > C::kWeightTiles) return kBadPointwise;
  return is_clamp(matrix.low, matrix.high) ? kDone : kBadClamp;
}

// Both arrays, what lies between them, and the max-pool behind them.
template <class C>
Status check_arrays(const Step &step) {
  Status status = check_matrix<C>(step.first);
  if (status == kDone) status = check_matrix<C>(step.second);
  if (status != kDone) return status;
  if (step.first.mode != kNoPointwise && step.first.in != step.window_words) return kBadPointwise;
  if (step.second.mode != kNoPointwise && (C::kArrays < 2 || step.first.mode == kNoPointwise)) {
    return kBadPointwise;
  }
  if (!in_range(step.middle_stride, 0, 2)) return kBadMiddle;
  if (step.middle_stride != 0) {
    if (step.second.mode == kNoPointwise || C::kMiddleWords < 2) return kBadMiddle;
    if (step.first.out > C::kMiddleGroups || step.out_width * step.first.out > C::kMiddleWords)
      return kBadMiddle;
    if (!is_clamp(step.middle_low, step.middle_high)) return kBadClamp;
  }
  if (!in_range(step.pool_stride, 0, 2)) return kBadPool;
  if (step.pool_stride != 0) {
    if (C::kPoolWords < 2) return kBadPool;
    if (step.store_words > C::kPoolGroups || step.middle_width * step.store_words > C::kPoolWords)
      return kBadPool;
  }
  return kDone;
}

// Chunks of what changes its order on the way.
template <class C>
Status check_chunks(const Step &step) {
  const int most = ChunkSize<C>::kWords;
  if (!in_range(step.load_pixels, 1, most) || !in_range(step.store_pixels, 1, most)) return kBadChunk;
  if (step.load_pixels * step.groups > most) return kBadChunk;
  if (step.store_count > 1 && step.store_pixels * step.store_words > most) return kBadChunk;
  return kDone;
}

// Whether tiles, and `rows` of requantization behind them, lie there.
template <class C>
bool matrix_lies_in(const Matrix &matrix, int rows, int begin, int end) {
  if (matrix.mode == kNoPointwise) return true;
  const long long tiles = static_cast<long long>(matrix.mode) * matrix.in * matrix.out;
  return lies_in(matrix.parameters, tiles * ((C::kLanes + 1) / 2) + rows * Types<C>::kRowWords, begin, end);
}

template <class C>
Status check_parameters(const Step &step, int begin, int end, int arena_begin, int arena_end) {
  const int taps = has_taps(step) ? 9 * step.groups : 0, rows = rows_of_window(step) * Types<C>::kRowWords;
  if (taps + rows > 0 && !lies_in(step.window_parameters, taps + rows, begin, end)) return kBadParameters;
  if (step.window == kVaried) {  // constants of every pixel
    const long long pixels = static_cast<long long>(step.out_height) * step.out_width;
    if (step.offset.stride != step.offset.count || step.offset.up != 0) return kBadOffsets;
    if (!lies_in(step.offset.address, extent(step.offset, pixels), begin, end)) return kBadParameters;
  }
  if (step.middle_stride != 0) {
    const int words = step.first.out * (9 + Types<C>::kRowWords);
    if (!lies_in(step.middle_parameters, words, begin, end)) return kBadParameters;
  }
  const bool computed = step.rows != 0;  // then tiles lie in the arena and their rows elsewhere, together
  const int from = computed ? arena_begin : begin, until = computed ? arena_end : end;
  const int first = computed ? 0 : step.first.out, second = computed ? 0 : step.second.out;
  if (!matrix_lies_in<C>(step.first, first, from, until)) return kBadParameters;
  if (!matrix_lies_in<C>(step.second, second, from, until)) return kBadParameters;
  const int both = (step.first.out + step.second.out) * Types<C>::kRowWords;
  if (computed && !lies_in(step.rows, both, begin, end)) return kBadParameters;
  if (step.table != 0) {
    if (C::kTables == 0 || step.pool_stride != 0) return kBadTable;
    if (!lies_in(step.table, kTableBytes / C::kLanes, begin, end)) return kBadTable;
  }
  return kDone;
}

// A side behind a 3x3 window of that stride, one zero around the map; 0: behind none.
inline int shrunk(int side, int stride) {
  #pragma HLS INLINE
  return stride == 2 ? (side + 1) / 2 : side;
}

// Descriptor `index` and its segments. Anything but kDone: the step must not run.
template <class C>
Status read_step(const typename Types<C>::Word *memory, int program, const Header &header, int index,
                 Step &step, Segment (&load)[C::kMaxSegments], Segment (&store)[C::kMaxSegments]) {
  int field[kStepFields];
  #pragma HLS ARRAY_PARTITION variable=field complete dim=1
  const int first = program + int(words_of_integers<C>(kHeaderFields));
  read_integers<C>(memory, first + index * int(words_of_integers<C>(kStepFields)), kStepFields, field);
  if (field[kStepMagic] != kStepMark) return kBadStep;
  if (field[kWindow] == kBranch) return read_branch<C>(field, header, index, step);
  step.load_count = field[kLoadCount];
  step.store_count = field[kStoreCount];
  step.height = field[kHeight];
  step.width = field[kWidth];
  step.groups = field[kGroups];
  step.packed = field[kPacked];
  step.window = field[kWindow];
  step.kernel = field[kKernel];
  step.stride_y = field[kStrideY];
  step.stride_x = field[kStrideX];
  step.origin_y = field[kOriginY];
  step.origin_x = field[kOriginX];
  step.reach = field[kReach];
  step.out_height = field[kOutHeight];
  step.out_width = field[kOutWidth];
  step.window_low = field[kWindowLow];
  step.window_high = field[kWindowHigh];
  step.window_parameters = field[kWindowParameters];
  step.offset.address = field[kOffsetAddress];
  step.offset.stride = field[kOffsetStride];
  step.offset.up = field[kOffsetUp] & kSegmentUpMask;
  step.offset.is_signed = step.offset.steers = false;
  step.offset.near = (field[kNear] & kNearOffset) != 0;
  step.offset_lane = field[kOffsetLane];
  const bool sampled = step.window == kSample;
  step.grid = sampled ? field[kSampleGrid] : 0;
  const int flags = sampled ? field[kSampleFlags] : 0;
  step.masked = flags & kSampleMasked;
  step.border = flags & kSampleBorder;
  step.taps = (flags & (kSampleStill - 1)) / kSampleTaps;
  step.still = flags & kSampleStill;
  step.mask_low = sampled ? field[kSampleMaskLow] : 0;
  step.mask_high = sampled ? field[kSampleMaskHigh] : 0;
  const bool mixed = step.window == kMix;
  step.mix = mixed ? field[kMixing] : 0;
  step.target = 0;
  step.threshold = mixed ? field[kMixThreshold] : 0;
  step.rows = sampled ? 0 : field[kRows];
  step.waits = step.rows != 0;  // weights are what the step before it may write
  if (!in_range(flags, 0, 2 * kSampleStill - 1)) return kBadSample;
  step.middle_stride = field[kMiddleStride];
  step.middle_low = field[kMiddleLow];
  step.middle_high = field[kMiddleHigh];
  step.middle_parameters = field[kMiddleParameters];
  step.pool_stride = field[kPoolStride];
  step.load_pixels = field[kLoadPixels];
  step.store_pixels = field[kStorePixels];
  step.near = field[kNear] & kNearMaps;
  step.steer = (field[kNear] & kNearSteer) != 0 ? 1 : 0;
  step.table = field[kTable];
  // Without an array, its sizes are not looked at.
  step.first.mode = field[kPointwise];
  const bool multiplies = step.first.mode != kNoPointwise;
  step.first.in = multiplies ? field[kPointwiseIn] : 0;
  step.first.out = multiplies ? field[kPointwiseOut] : 0;
  step.first.low = field[kPointwiseLow];
  step.first.high = field[kPointwiseHigh];
  step.first.parameters = field[kPointwiseParameters];
  step.second.mode = field[kSecond];
  const bool again = step.second.mode != kNoPointwise;
  step.second.in = !again ? 0 : step.middle_stride != 0 ? step.first.out : step.first.in;
  step.second.out = again ? field[kSecondOut] : 0;
  step.second.low = field[kSecondLow];
  step.second.high = field[kSecondHigh];
  step.second.parameters = field[kSecondParameters];

  // Ranges first: what follows multiplies these.
  if (!in_range(step.height, 1, kMaxSide) || !in_range(step.width, 1, kMaxSide)) return kBadShape;
  if (!in_range(step.out_height, 1, kMaxSide) || !in_range(step.out_width, 1, kMaxSide)) return kBadShape;
  if (!in_range(step.groups, 1, C::kRowWords + C::kInputWords)) return kBadShape;
  if (!in_range(step.packed, 0, C::kPackLog2 > 0 ? 1 : 0)) return kBadShape;
  if (step.packed != 0 && step.groups != 1) return kBadShape;
  const int most_near = C::kSteerWords < 2 ? int(kNearMaps) : kNearMaps + kNearSteer + kNearOffset;
  if (!in_range(field[kNear], 0, most_near)) return kBadNear;
  if (!in_range(step.load_count, 1, C::kMaxSegments)) return kBadSegments;
  if (!in_range(step.store_count, 1, C::kMaxSegments)) return kBadSegments;

  const int pack = 1 << C::kPackLog2;
  step.row_words = step.packed != 0 ? (step.width + pack - 1) / pack : step.width * step.groups;
  const int rows = in_range(step.reach, 0, larger(C::kMaxOffset, 2)) && in_range(step.stride_y, 1, 4)
                       ? 2 * step.reach + 1 + step.stride_y
                       : C::kRingRows;
  step.spread = rows <= C::kRingRows >> 2 ? 2 : rows <= C::kRingRows >> 1 ? 1 : 0;
  const int taps = in_range(step.kernel, 1, kMaxKernel) ? step.kernel * step.kernel : 0;
  const int mixed_out = in_range(field[kMixOut], 1, step.groups) ? field[kMixOut] : step.groups;
  step.window_words = step.window == kMix      ? mixed_out
                      : step.window != kGather ? step.groups
                      : step.packed != 0       ? (taps + pack - 1) / pack
                                               : taps * step.groups;
  step.first_words = multiplies ? step.first.out : step.window_words;
  step.parts = step.groups / step.window_words;
  // Offsets of a pixel, and masks, begin with a word: one number, or those of nine taps. So do gates: one for each word
  // that is mixed or picked, or a number for each part of weights.
  const int several = taps_of(step) * ((step.still != 0 ? 0 : 2) + (step.masked != 0 ? 1 : 0));
  const int numbers = mixes_weights(step) ? step.parts : sampled ? several : 1;
  step.offset.count = (numbers + C::kLanes - 1) / C::kLanes;
  if (step.window == kVaried) step.offset.count = 9 * step.groups;
  if (mixed && !mixes_weights(step)) {
    step.offset.count = step.mix == kMixPick ? step.window_words : step.groups;
  }

  step.middle_height = shrunk(step.out_height, step.middle_stride);
  step.middle_width = shrunk(step.out_width, step.middle_stride);
  step.stored_height = shrunk(step.middle_height, step.pool_stride);
  step.stored_width = shrunk(step.middle_width, step.pool_stride);
  if (!in_range(step.first.out, 0, C::kOutputWords) || !in_range(step.second.out, 0, C::kOutputWords)) {
    return kBadPointwise;
  }
  step.store_words = (step.middle_stride != 0 ? 0 : step.first_words) + step.second.out;

  // Loops count in 32 bits; rows and columns that follow a map count as well, and slots that stay empty.
  const long long in_pixels = static_cast<long long>(step.height) * step.width;
  const long long out_pixels = (static_cast<long long>(step.out_height) + 1) * (step.out_width + 1);
  const int words = larger(larger(step.window_words, step.first_words), step.store_words);
  const long long turns = turns_of(step) * (static_cast<long long>(words) + kSlots);
  if (in_pixels * step.groups > kMaxTrips || out_pixels * turns > kMaxTrips) return kBadShape;

  Status status = check_window<C>(step);
  if (status == kDone) status = check_arrays<C>(step);
  if (status == kDone) status = check_chunks<C>(step);
  if (status == kDone) {
    status = check_parameters<C>(step, program, program + header.program_words, header.arena_begin,
                                 header.arena_end);
  }
  if (status != kDone) return status;

  const int table = field[kSegments], entries = step.load_count + step.store_count;
  const long long table_words = words_of_integers<C>(entries * kSegmentFields);
  if (!lies_in(table, table_words, program, program + header.program_words)) return kBadSegments;
  int entry[2 * C::kMaxSegments * kSegmentFields];
  #pragma HLS ARRAY_PARTITION variable=entry cyclic factor=16 dim=1
  read_integers<C>(memory, table, entries * kSegmentFields, entry);
LoadTable:
  for (int i = 0; i < step.load_count; ++i) load[i] = segment_of(&entry[i * kSegmentFields]);
StoreTable:
  for (int i = 0; i < step.store_count; ++i) {
    store[i] = segment_of(&entry[(step.load_count + i) * kSegmentFields]);
  }
  return check_segments<C>(step, load, store, header, program);
}

}  // namespace codesign
