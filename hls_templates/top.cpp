// top.cpp -- the hardware's interface: four ports to one memory, two numbers in, a status out.
//
// Addresses count words of kLanes bytes from where the pointers point; all four must be given the same base.
// `depth` is read by RTL co-simulation alone: words of memory that it copies to and from each port. codesign synth
// gives its test bench a memory of that many words, and one step of the program a start: there, unlike in hardware,
// a port does not see what another has written in the same run.
#include "config.hpp"
#include "top.hpp"

int codesign_engine(const codesign::Types<Config>::Word *features,
                    const codesign::Types<Config>::Word *offsets,
                    const codesign::Types<Config>::Word *program_port, codesign::Types<Config>::Word *results,
                    int program, int memory_words) {
  #pragma HLS INTERFACE m_axi port=features offset=slave bundle=features depth=65536
  #pragma HLS INTERFACE m_axi port=offsets offset=slave bundle=offsets depth=65536
  #pragma HLS INTERFACE m_axi port=program_port offset=slave bundle=program depth=65536
  #pragma HLS INTERFACE m_axi port=results offset=slave bundle=results depth=65536
  #pragma HLS INTERFACE s_axilite port=features bundle=control
  #pragma HLS INTERFACE s_axilite port=offsets bundle=control
  #pragma HLS INTERFACE s_axilite port=program_port bundle=control
  #pragma HLS INTERFACE s_axilite port=results bundle=control
  #pragma HLS INTERFACE s_axilite port=program bundle=control
  #pragma HLS INTERFACE s_axilite port=memory_words bundle=control
  #pragma HLS INTERFACE s_axilite port=return bundle=control
  return codesign::run_program<Config>(features, offsets, program_port, results, program, memory_words);
}
