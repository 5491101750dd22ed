// layout.hpp -- the program in memory: what lies where, and the values that a step is made of.
//
// A program is a header, one descriptor a step, tables of segments and parameters, all of them 32-bit
// little-endian integers or bytes at word addresses. A word is kLanes bytes. codesign/program.py writes the same
// layout; the enumerators here are its field indices.
#pragma once
#include "types.hpp"

namespace codesign {

enum Status {
  kDone = 0,
  kBadMagic = 1,        // no program at that address
  kBadVersion = 2,      // written for another version of this engine
  kBadLanes = 3,        // written for another word size
  kBadProgram = 4,      // the header's regions or counts are not inside the memory
  kBadStep = 5,         // a descriptor without its mark, or with unused fields set
  kBadShape = 6,        // height, width or channel groups out of range
  kBadSegments = 7,     // number of segments, or their words a pixel, out of range
  kBadLoad = 8,         // a segment to read leaves the arena
  kBadStore = 9,        // a segment to write leaves the arena, or overlaps what is read
  kBadWindow = 10,      // kind, kernel, stride, origin or reach of the window
  kBadRow = 11,         // rows too long or too many for the ring
  kBadOffsets = 12,     // the offsets leave the arena, or overlap what is written
  kBadPointwise = 13,   // mode or size of the pointwise array
  kBadParameters = 14,  // weights or requantization rows outside the program
  kBadClamp = 15,       // low and high are not an 8-bit range
  kBadMiddle = 16,      // stride or size of what lies between the arrays
  kBadPool = 17,        // stride or size of the max-pool behind them
  kBadChunk = 18,       // more pixels at once than the buffers of load or store hold
  kBadNear = 19,        // which of the memories on chip are read
  kBadSample = 20,      // grid, masks, taps or border of a sampled window
  kBadGlobal = 22,      // what leaves the sum of a map is no pixel, or its words or the map are too many
  kBadMix = 23,         // kind, parts, gates or sides of what is multiplied by gates
  kBadTable = 24,       // the table leaves the program, or is one too many
  kBadBranch = 25,      // the number a branch looks at, where it leads, or a field it does not have
  kBadRows = 26         // rows of requantization of another kind than the engine's
};

enum HeaderField {
  kHeaderMagic,
  kHeaderVersion,
  kHeaderLanes,
  kHeaderSteps,
  kHeaderProgramWords,
  kHeaderArenaBegin,
  kHeaderArenaEnd,
  kHeaderWide,  // 1: its rows of requantization are wide: rows.hpp
  kHeaderReserved,
  kHeaderFields = 16
};

enum StepField {
  kStepMagic,
  kLoadCount,
  kStoreCount,
  kSegments,  // address of the table: load segments, then store segments
  kHeight,    // of what is loaded, after upsampling
  kWidth,
  kGroups,  // words a pixel
  kPacked,  // 1: a word holds 2^kPackLog2 pixels of a row
  kWindow,
  kKernel,
  kStrideY,
  kStrideX,
  kOriginY,  // input row of the centre tap of output row 0
  kOriginX,
  kReach,      // rows above and below the centre that may be read: 1, or the bound on offsets
  kOutHeight,  // of what leaves the window and the first array
  kOutWidth,
  kWindowLow,
  kWindowHigh,
  kWindowParameters,  // 9 words of depthwise weights a group, unless they are varied, then 6 of requantization
  kOffsetAddress,     // of a varied window, its weights: for each pixel nine words a group, a word a tap
  kOffsetStride,
  kOffsetUp,
  kOffsetLane,
  kPointwise,
  kPointwiseIn,   // words a pixel
  kPointwiseOut,  // words a pixel
  kPointwiseLow,
  kPointwiseHigh,
  kPointwiseParameters,  // tiles of (kLanes + 1) / 2 words, then 6 words of requantization a group
  kSecond,  // as kPointwise, of the second array: more words of the same result, or what follows the middle
  kSecondOut,
  kSecondLow,
  kSecondHigh,
  kSecondParameters,
  kMiddleStride,  // 0: both arrays get what leaves the window; else the second gets a 3x3 depthwise of the first's
  kMiddleLow,
  kMiddleHigh,
  kMiddleParameters,  // as kWindowParameters
  kPoolStride,        // 0: what leaves is stored; else its 3x3 max-pool
  kLoadPixels,        // of a chunk of what is loaded in another order than it is stored
  kStorePixels,
  kNear,        // which memories on chip are read: NearFlag
  kTable,       // address of 256 bytes that every code is looked up in before it is stored; 0: none is
  kSampleGrid,  // of a sampled window: bits of fraction of an offset
  kSampleFlags,
  kSampleMaskLow,
  kSampleMaskHigh,
  kStepFields = 48
};

// Of a branch, in the place of a sampled window's fields.
enum BranchField { kBranchThreshold = kSampleGrid, kBranchTarget, kBranchSigned };
// Of a window that mixes, in the place of a sampled one's fields. The last is of every window but that one: address of
// the requantization rows of both arrays, whose tiles then lie in the arena; 0: as kPointwiseParameters says.
enum MixField { kMixing = kSampleGrid, kMixOut, kMixThreshold, kRows };

enum SegmentField { kSegmentAddress, kSegmentCount, kSegmentStride, kSegmentFlags, kSegmentFields };
enum SegmentFlag { kSegmentUpMask = 3, kSegmentSigned = 4, kSegmentNear = 8, kSegmentSteers = 16 };
// Of the two memories for maps, the one that segments are loaded from; of the two for what steers windows, the one that
// is read; and whether it is. Stored is to the others.
enum NearFlag { kNearMaps = 1, kNearSteer = 2, kNearOffset = 4 };

// A branch is no window: it computes nothing.
enum WindowKind {
  kPass = 0,
  kDepthwise = 1,
  kDeformable = 2,
  kMaxPool = 3,
  kGather = 4,
  kSample = 5,
  kVaried = 6,
  kGlobal = 7,
  kMix = 8,
  kBranch = 9
};
// Taps: times this. Still: there are masks, but no offsets.
enum SampleFlag { kSampleMasked = 1, kSampleBorder = 2, kSampleTaps = 4, kSampleStill = 16 };
enum TapsKind { kSquare = 0, kTapRow = 1, kTapColumn = 2, kOneTap = 3 };  // 3x3, 1x9, 9x1, 1x1
enum MixKind { kMixMaps = 0, kMixPick = 1, kMixInt4 = 2, kMixInt8 = 3 };  // the latter two are of weights
enum PointwiseKind { kNoPointwise = 0, kInt4 = 1, kInt8 = 2 };

static const int kProgramMagic = 0x43534450;
static const int kProgramVersion = 4;
static const int kStepMark = 0x53544550;
static const int kMaxSteps = 4096;
static const int kAlways = 256;  // a threshold that no byte reaches: such a branch need not look
static const int kMaxSide = 8192;
static const int kMaxKernel = 5;                // side of a gathered window
static const long long kMaxTrips = 0x7fffffff;  // of one loop
static const int kSlots = 4;                    // of a pixel in lines.hpp and global.hpp, at least
static const int kTableBytes = 256;
static const int kMaxParts = 64;        // that gates are multiplied with and added
static const int kMaxSummed = 1 << 22;  // pixels of a map whose sum has 32 bits

// Words of the buffers of load.hpp and store.hpp, in which words change their order. Any pixel that is loaded has a
// place, and so many pixels that runs in memory are long beside its latency.
template <class C>
struct ChunkSize {
  static const int kLeast = 512;
  static const int kLoaded = C::kRowWords + C::kInputWords, kStored = C::kArrays * C::kOutputWords;
  static const int kLarger = kLoaded > kStored ? kLoaded : kStored;
  static const int kWords = kLarger > kLeast ? kLarger : kLeast;
};

// Part of a tensor: `count` words of each pixel, pixels `stride` words apart in rows without gaps.
struct Segment {
  int address, count, stride, up;  // up: log2 of nearest-neighbour upsampling while it is read
  bool is_signed;
  bool near;    // in a memory on chip, whose words count from 0, and not in the arena
  bool steers;  // in one for what steers windows; is only stored there
};

// What one array multiplies with: `in` words a pixel with `out` words of weights.
struct Matrix {
  int mode, in, out, low, high, parameters;
};

// One step, as its fields say.
struct Step {
  int load_count, store_count, height, width, groups, packed;
  int window, kernel, stride_y, stride_x, origin_y, origin_x, reach, out_height, out_width;
  int window_low, window_high, window_parameters;
  Segment offset;
  int offset_lane;
  int grid, masked, border, taps, still, mask_low, mask_high;  // of a sampled window
  int mix, parts;                                              // of one that mixes
  int rows;               // of requantization, if weights lie in the arena; else 0
  int threshold, target;  // of a branch; the former of picks as well
  bool waits;             // needs what the step before it writes before it can be prepared
  Matrix first, second;
  int middle_stride, middle_low, middle_high, middle_parameters, pool_stride, load_pixels, store_pixels;
  int near, steer;
  int table;
  int row_words;                    // of the ring: one input row
  int spread;                       // log2 of the slots of the ring that a row takes: see window.hpp
  int window_words;                 // a pixel leaves the window in so many words
  int first_words;                  // the first array or, without it, the window
  int store_words;                  // and the step in so many
  int middle_height, middle_width;  // of what the second array gets
  int stored_height, stored_width;
};

// Whether the window has weights and requantization of its own.
inline bool is_filter(const Step &step) {
  #pragma HLS INLINE
  return step.window == kDepthwise || step.window == kDeformable || step.window == kSample ||
         step.window == kVaried;
}

// Whether its weights are the same at every pixel.
inline bool has_taps(const Step &step) {
  #pragma HLS INLINE
  return is_filter(step) && step.window != kVaried;
}

// Whether the window reads the offsets port.
inline bool is_steered(const Step &step) {
  #pragma HLS INLINE
  return step.window == kDeformable || step.window == kSample || step.window == kVaried ||
         step.window == kMix;
}

// Taps of a sampled or varied window.
inline int taps_of(const Step &step) {
  #pragma HLS INLINE
  return step.taps == kOneTap ? 1 : 9;
}

// Rows above the pixel itself in which a sampled window has taps.
inline int tap_rows(const Step &step) {
  #pragma HLS INLINE
  return step.taps == kSquare ? 1 : step.taps == kTapColumn ? 4 : 0;
}

// Whether the window reads gates, which are the same for every pixel, and whether it makes weights.
inline bool is_mixed(const Step &step) {
  #pragma HLS INLINE
  return step.window == kMix;
}

inline bool mixes_weights(const Step &step) {
  #pragma HLS INLINE
  return step.window == kMix && step.mix >= kMixInt4;
}

// Requantization rows of the window.
inline int rows_of_window(const Step &step) {
  #pragma HLS INLINE
  if (mixes_weights(step)) return step.height;
  if (step.window == kMix) return step.window_words;
  return is_filter(step) || step.window == kGlobal ? step.groups : 0;
}

// Height and width of what comes through the offsets port; the former is 1 where it is the same for every pixel.
inline int steered_height(const Step &step) {
  #pragma HLS INLINE
  return is_mixed(step) ? 1 : step.out_height;
}

inline int steered_width(const Step &step) {
  #pragma HLS INLINE
  return is_mixed(step) ? 1 : step.out_width;
}

// Sums that global.hpp keeps: those of a word are at least kSlots apart.
inline int partial_sums(const Step &step) {
  #pragma HLS INLINE
  return step.groups == 1 ? kSlots : step.groups < kSlots ? 2 * step.groups : step.groups;
}

// Cycles in which a word leaves the window.
inline int turns_of(const Step &step) {
  #pragma HLS INLINE
  if (step.window == kMix) return step.parts;
  return step.window == kSample || step.window == kVaried ? taps_of(step) : 1;
}

// What array `kArray` multiplies with, and on how many pixels.
template <int kArray>
const Matrix &matrix_of(const Step &step) {
  #pragma HLS INLINE
  return kArray == 0 ? step.first : step.second;
}

template <int kArray>
int pixels_of(const Step &step) {
  #pragma HLS INLINE
  return kArray == 0 ? step.out_height * step.out_width : step.middle_height * step.middle_width;
}

// A step that computes nothing: it brings the parameters of the step after it, or none.
inline Step idle_step() {
  Step step = Step();
  step.width = step.groups = step.load_count = step.store_count = step.store_words = step.window_words = 1;
  step.first_words = step.load_pixels = step.store_pixels = 1;
  return step;
}

struct Header {
  int steps, program_words, arena_begin, arena_end;
};

}  // namespace codesign
