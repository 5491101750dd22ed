// branch.hpp -- a step that computes nothing: it says which step follows.
//
//   follows = number < threshold ? step `target` : the next step
//
// number: byte `offset_lane` of the word at `offset.address` in the arena, unsigned or signed, that an earlier step has
// written. Targets lie ahead, at most behind the last step, so that a program ends. A threshold of kAlways is above
// every number: such a branch need not look, and so it need not wait.
//
// Cycles: the latency of the memory, behind the step before; then the parameters of the step that follows.
#pragma once
#include "layout.hpp"
#include "trace.hpp"

namespace codesign {

// Descriptor `index`, which is a branch. Fields that it does not have are 0.
template <class C>
Status read_branch(const int (&field)[kStepFields], const Header &header, int index, Step &step) {
  step = idle_step();
  step.window = kBranch;
  step.offset.address = field[kOffsetAddress];
  step.offset.is_signed = field[kBranchSigned] != 0;
  step.offset_lane = field[kOffsetLane];
  step.threshold = field[kBranchThreshold];
  step.target = field[kBranchTarget];
  step.waits = step.threshold < kAlways;
  if (C::kBranches == 0) return kBadWindow;
Unused:
  for (int i = kLoadCount; i < kStepFields; ++i) {
    const bool used = i == kWindow || i == kOffsetAddress || i == kOffsetLane || i >= kBranchThreshold;
    if (!used && field[i] != 0) return kBadBranch;
  }
  if ((field[kBranchSigned] | 1) != 1 || field[kStepFields - 1] != 0) return kBadBranch;
  if (step.target <= index || step.target > header.steps) return kBadBranch;
  const int address = step.offset.address;
  if (step.waits && (address < header.arena_begin || address >= header.arena_end)) return kBadBranch;
  if (step.offset_lane < 0 || step.offset_lane >= C::kLanes) return kBadBranch;
  return kDone;
}

// The step behind a branch. Everything before it is in memory.
template <class C>
int follows(const Step &branch, int index, const typename Types<C>::Word *memory) {
  if (branch.threshold >= kAlways) return branch.target;
  int number = 0;
Gate:
  for (int i = 0; i < 1; ++i) {
    #pragma HLS PIPELINE II=1
    Trace::iteration("Gate", 1, 4, i == 0);
    Trace::fetch("program", branch.offset.address + i);
    number = int(Types<C>::Memory::byte(memory[branch.offset.address + i], branch.offset_lane));
  }
  const int sign = branch.offset.is_signed ? 128 : 0;
  return (number ^ sign) - sign < branch.threshold ? branch.target : index + 1;
}

}  // namespace codesign
