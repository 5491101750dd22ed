// untraced.hpp -- the questions of the cycle-level simulation, unanswered: in hardware and in every other simulation.
//
// There are three files called trace.hpp. The include path chooses one: exact/ and native/ take these empty
// functions, which leave nothing behind; sim/cycles/ records what they are told. What to tell:
//
//   process     first statement of a function that is a process of a dataflow region
//   iteration   first statement of a pipelined loop, after its pragmas: its label, its II as in the pragma, its depth
//               (cycles from reading streams and ports to writing them), and whether this is the first iteration of
//               a run of the loop. Streams and ports used until the next iteration() or control() belong to it
//   control     cycles spent outside of pipelined loops, where they are spent
//   read/write  one access to a memory on chip, in the iteration that makes it. `array` is the name under which the
//               memory is bound (CODESIGN_IN_BRAM(ring.bank): "ring.bank"; one that is not bound has two ports) and
//               that no other memory has; `bank` tells physical memories of one name apart: slots, copies, halves;
//               readings of one address of a bank are one. What is partitioned into registers is not reported
//   fetch/put   one word read from or written to memory outside through a port, which has the name of its bundle
//   begin/end   around the call of a dataflow region, with the step it computes; what is outside is one process
//
// A stream is known by the name it is constructed with, which must be that of the variable: its depth is that of
// `#pragma HLS STREAM variable=NAME depth=N`, or 2 without one.
#pragma once

namespace codesign {

struct Trace {
  static void process(const char *) {
    #pragma HLS INLINE
  }
  static void iteration(const char *, int, int, bool) {
    #pragma HLS INLINE
  }
  static void control(int) {
    #pragma HLS INLINE
  }
  static void read(const char *, int, int) {
    #pragma HLS INLINE
  }
  static void write(const char *, int, int) {
    #pragma HLS INLINE
  }
  static void fetch(const char *, int) {
    #pragma HLS INLINE
  }
  static void put(const char *, int) {
    #pragma HLS INLINE
  }
  static void begin(const char *, int) {
    #pragma HLS INLINE
  }
  static void end() {
    #pragma HLS INLINE
  }
};

}  // namespace codesign
