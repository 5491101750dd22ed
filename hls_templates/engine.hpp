// engine.hpp -- the walk over the steps of a program, one start a frame.
//
//   one array      Load -> Window -> Pointwise -> Finish -> Tail -> Store
//
//   two arrays     Load -> Window -> Pointwise -> Finish -> Middle ------------------------> Tail -> Store
//                                \                               \                       /
//                                  --------------------------------> Pointwise -> Finish
//
// stages.hpp has the one or the other: it is a file of stages/. Every stage can be passed through, so a step is a 1x1
// convolution, a depthwise or deformable 3x3, both fused, a dense convolution, or a max-pool. A second array computes
// words of the same result as the first; or it follows a depthwise 3x3 of what the first has computed. A 3x3 max-pool
// can be behind all of them. All steps are checked before the first one runs: an illegal program changes nothing.
// Maps may stay on chip, in one of two memories: a step reads one and writes the other, because in a dataflow region one
// process may read a memory and one may write it. run_step is one piece of hardware; which memory it gets is a choice.
// So may what steers windows, in two memories of its own, because another process reads it.
// While a step runs, the parameters of the next one are brought. A step that needs what the one before it writes (it
// `waits`: a branch, or one whose weights are computed) is prepared behind that one, while an idle step runs.
// Returns kDone, or the Status of the first illegal step plus 256 times (its index + 1).
// Cycles of a step: its slowest stage; they overlap, and so do the parameters of the step after it.
#pragma once
#include "descriptor.hpp"
#include "stages.hpp"
#include "trace.hpp"
#include "vendor.hpp"

namespace codesign {

// Hardware starts with anything in a memory on chip. Simulations start with zeros, so that they can be repeated.
template <class C, int kWords>
void clear(typename Types<C>::Word (&near)[2][kWords]) {
  for (int memory = 0; memory < 2; ++memory) {
    for (int i = 0; i < kWords; ++i) near[memory][i] = Types<C>::Memory::zero();
  }
}

// The four pointers are ports to one memory of `memory_words` words; `program` is the address of the header.
template <class C>
int run_program(const typename Types<C>::Word *features, const typename Types<C>::Word *offsets,
                const typename Types<C>::Word *program_port, typename Types<C>::Word *results, int program,
                int memory_words) {
  CODESIGN_ONE_INSTANCE(run_step)
  static_assert(C::kMaxOffset >= 1, "kMaxOffset must be at least 1: an ordinary 3x3 window reaches 1");
  static_assert(C::kRingRows >= 2 * C::kMaxOffset + 2, "kRingRows must be at least 2 * kMaxOffset + 2");
  static_assert(C::kMaxSegments >= 1, "kMaxSegments must be at least 1");
  static_assert(C::kArrays == Parameters<C>::kArrays, "stages.hpp is that of another number of arrays");
  static_assert(C::kNearWords >= 1 && C::kSteerWords >= 1, "kNearWords and kSteerWords must be at least 1");
  Parameters<C> parameters;
  typename Types<C>::Word near[2][C::kNearWords];
  #pragma HLS ARRAY_PARTITION variable=near complete dim=1
  CODESIGN_LARGE(near)
  typename Types<C>::Word steer[2][C::kSteerWords];
  #pragma HLS ARRAY_PARTITION variable=steer complete dim=1
  CODESIGN_SIMULATED(clear<C>(near); clear<C>(steer);)

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
  int index = -1, following = 0;  // the step that runs, and the one to be prepared
  int half = 1;                   // of the memories for parameters: that of the step that runs
  bool idle = true;               // what runs computes nothing
  // A step takes a turn, and at most another for a branch and one for an idle step before it.
  const int most = 3 * header.steps;
Run:
  for (int turn = 0; turn <= most && (!idle || following < header.steps); ++turn) {
    next = idle_step();
    if (following < header.steps) {
      const Status status = read_step<C>(program_port, program, header, following, next, next_load_segments,
                                         next_store_segments);
      if (status != kDone) return status + 256 * (following + 1);
    }
    if (next.window == kBranch && (idle || !next.waits)) {
      following = follows<C>(next, following, program_port);
      continue;
    }
    const bool waits = !idle && next.waits;
    if (waits) next = idle_step();
    if (idle && index >= 0) {
      Trace::begin("idle", following);
    } else {
      Trace::begin("step", index);
    }
    const bool turned = C::kSteerWords > 1 && step.steer != 0;
    if (step.near == 0 && !turned) {
      run_step<C>(step, next, half, load_segments, store_segments, features, offsets, program_port,
                  parameters, near[0], near[1], steer[0], steer[1], results);
    } else if (step.near != 0 && !turned) {
      run_step<C>(step, next, half, load_segments, store_segments, features, offsets, program_port,
                  parameters, near[1], near[0], steer[0], steer[1], results);
    } else if (step.near == 0) {
      run_step<C>(step, next, half, load_segments, store_segments, features, offsets, program_port,
                  parameters, near[0], near[1], steer[1], steer[0], results);
    } else {
      run_step<C>(step, next, half, load_segments, store_segments, features, offsets, program_port,
                  parameters, near[1], near[0], steer[1], steer[0], results);
    }
    Trace::end();
    step = next;
    half ^= 1;
    idle = waits || following >= header.steps;
    if (!waits) index = following++;
  Segments:
    for (int j = 0; j < C::kMaxSegments; ++j) {
      load_segments[j] = next_load_segments[j];
      store_segments[j] = next_store_segments[j];
    }
  }
  return kDone;
}

}  // namespace codesign
