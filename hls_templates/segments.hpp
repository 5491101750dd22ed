// segments.hpp -- the parts of tensors that a step reads and writes, and the checks that they lie where they may.
//
// A segment lies in the arena, or in a memory on chip; what a step writes overlaps nothing that it reads.
#pragma once
#include "header.hpp"

namespace codesign {

// Words from the first to the last that a segment touches on a map of so many pixels.
inline long long extent(const Segment &segment, long long pixels) {
  return (pixels - 1) * segment.stride + segment.count;
}

inline bool is_segment(const Segment &segment) {
  return segment.count >= 1 && segment.stride >= segment.count && segment.address >= 0;
}

inline long long upsampled_pixels(const Segment &segment, int height, int width) {
  return static_cast<long long>(height >> segment.up) * (width >> segment.up);
}

inline bool divides(int height, int width, int up) {
  return ((height >> up) << up) == height && ((width >> up) << up) == width;
}

inline Segment segment_of(const int *field) {
  Segment segment;
  segment.address = field[kSegmentAddress];
  segment.count = field[kSegmentCount];
  segment.stride = field[kSegmentStride];
  segment.up = field[kSegmentFlags] & kSegmentUpMask;
  segment.is_signed = (field[kSegmentFlags] & kSegmentSigned) != 0;
  segment.near = (field[kSegmentFlags] & kSegmentNear) != 0;
  segment.steers = (field[kSegmentFlags] & kSegmentSteers) != 0;
  return segment;
}

// Words of a memory for maps, and of one for what steers windows; without one an array of a word is left.
template <class C>
int near_words() {
  #pragma HLS INLINE
  return C::kNearWords < 2 ? 0 : C::kNearWords;
}

template <class C>
int steer_words() {
  #pragma HLS INLINE
  return C::kSteerWords < 2 ? 0 : C::kSteerWords;
}

// Segments to read and to write, and the offsets, against the arena and against each other.
template <class C>
Status check_segments(const Step &step, const Segment (&load)[C::kMaxSegments],
                      const Segment (&store)[C::kMaxSegments], const Header &header, int program) {
  const int begin = header.arena_begin, end = header.arena_end;
  // Weights that are mixed are part of the program.
  const int from = mixes_weights(step) ? program : begin;
  const int until = mixes_weights(step) ? program + header.program_words : end;
  const long long loaded = static_cast<long long>(step.height) * step.width;
  const long long stored = static_cast<long long>(step.stored_height) * step.stored_width;
  long long words = 0;
Load:
  for (int i = 0; i < step.load_count; ++i) {
    if (!is_segment(load[i]) || !divides(step.height, step.width, load[i].up)) return kBadLoad;
    if (load[i].steers) return kBadLoad;
    if (step.packed != 0 && (load[i].up != 0 || load[i].stride != 1 || step.load_count != 1)) return kBadLoad;
    const long long pixels = step.packed != 0 ? static_cast<long long>(step.height) * step.row_words
                                              : upsampled_pixels(load[i], step.height, step.width);
    const int low = load[i].near ? 0 : from, high = load[i].near ? near_words<C>() : until;
    if (!lies_in(load[i].address, extent(load[i], pixels), low, high)) return kBadLoad;
    words += load[i].count;
  }
  if (words != step.groups || loaded < 1) return kBadSegments;
  words = 0;
Store:
  for (int i = 0; i < step.store_count; ++i) {
    if (!is_segment(store[i]) || store[i].up != 0 || (store[i].near && store[i].steers)) return kBadStore;
    const long long size = extent(store[i], stored);
    const bool on_chip = store[i].near || store[i].steers;
    const int low = on_chip ? 0 : begin;
    const int high = store[i].near ? near_words<C>() : store[i].steers ? steer_words<C>() : end;
    if (!lies_in(store[i].address, size, low, high)) return kBadStore;
    words += store[i].count;
  Overlap:
    for (int j = 0; j < step.load_count; ++j) {
      const long long pixels = step.packed != 0 ? static_cast<long long>(step.height) * step.row_words
                                                : upsampled_pixels(load[j], step.height, step.width);
      const bool apart = on_chip || load[j].near;  // what is on chip is stored in another memory
      if (!apart && overlap(store[i].address, size, load[j].address, extent(load[j], pixels)))
        return kBadStore;
    }
  }
  if (words != step.store_words) return kBadSegments;
  if (is_steered(step) && step.window != kVaried) {
    if (!is_segment(step.offset)) return kBadOffsets;
    if (!in_range(step.offset_lane, 0, C::kLanes - 1)) return kBadOffsets;
    const int height = steered_height(step), width = steered_width(step);
    if (!divides(height, width, step.offset.up)) return kBadOffsets;
    const long long pixels = upsampled_pixels(step.offset, height, width);
    const long long size = extent(step.offset, pixels);
    const int low = step.offset.near ? 0 : begin, high = step.offset.near ? steer_words<C>() : end;
    if (!lies_in(step.offset.address, size, low, high)) return kBadOffsets;
  OffsetOverlap:
    for (int i = 0; i < step.store_count; ++i) {
      const bool apart = store[i].near || store[i].steers || step.offset.near;
      if (!apart && overlap(step.offset.address, size, store[i].address, extent(store[i], stored)))
        return kBadOffsets;
    }
  } else if (step.offset.near) {
    return kBadNear;
  }
  return kDone;
}

}  // namespace codesign
