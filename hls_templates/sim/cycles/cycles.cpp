// sim/cycles/cycles.cpp -- the engine as a shared library that counts cycles, called from codesign/cycles.py.
//
//   codesign_cycles_start   facts, one a line: `stream NAME DEPTH`, `split NAME` for a memory with one port to read
//                           and one to write, `port NAME`, and
//                           `memory BYTES_PER_CYCLE WORD_BYTES BEATS BURST OUTSTANDING LATENCY BLOCK`
//   codesign_csim           a frame, by the same thread; -3 if the design failed
//   codesign_cycles_report  what the frame's regions took, as JSON, or after a failure what it was
#include <memory>
#include <sstream>
#include <string>

#include "sim/cycles/network.hpp"
#include "sim/memory.hpp"

namespace {

struct Session {
  std::unique_ptr<cycles::Network> network;
  std::string report;
};

Session &session() {
  static thread_local Session one;
  return one;
}

}  // namespace

extern "C" int codesign_cycles_start(const char *facts) {
  cycles::Recorder &recorder = cycles::recorder();
  recorder.reset();
  cycles::MemoryFacts memory = {};
  std::istringstream lines(facts);
  std::string key, name;
  while (lines >> key) {
    if (key == "stream") {
      int depth = 0;
      lines >> name >> depth;
      recorder.depths[name] = depth;
    } else if (key == "split") {
      lines >> name;
      recorder.one_read_write[name] = true;
    } else if (key == "port") {
      lines >> name;
      recorder.ports.push_back(name);
    } else if (key == "memory") {
      lines >> memory.bytes_per_cycle >> memory.word_bytes >> memory.beats >> memory.burst >>
          memory.outstanding >> memory.latency >> memory.block;
    } else {
      return 1;
    }
    if (!lines) return 1;
  }
  session().network.reset(new cycles::Network(memory, recorder.ports));
  recorder.player = session().network.get();
  return 0;
}

extern "C" int codesign_csim(uint8_t *bytes, int words, int program) {
  int status = 0;
  try {
    status = codesign::simulate(bytes, words, program);
    if (cycles::recorder().active()) {
      cycles::recorder().finish();
      session().report = session().network->report();
    }
  } catch (const cycles::Failure &failure) {
    session().report = failure.text;
    status = -3;
  }
  cycles::recorder().reset();
  return status;
}

extern "C" const char *codesign_cycles_report() { return session().report.c_str(); }

extern "C" const char *codesign_misuse() { return hls::Misuse::message(); }
