// sim/cycles/trace.hpp -- what untraced.hpp describes, recorded.
#pragma once
#include "sim/cycles/recorder.hpp"

namespace codesign {

struct Trace {
  static void process(const char *name) {
    if (cycles::recorder().active()) cycles::recorder().process(name);
  }
  static void iteration(const char *loop, int ii, int depth, bool first) {
    if (cycles::recorder().active()) cycles::recorder().iteration(loop, ii, depth, first);
  }
  static void control(int count) {
    if (cycles::recorder().active()) cycles::recorder().control(count);
  }
  static void read(const char *array, int bank, int address) {
    if (cycles::recorder().active()) cycles::recorder().access(array, bank, address, false);
  }
  static void write(const char *array, int bank, int address) {
    if (cycles::recorder().active()) cycles::recorder().access(array, bank, address, true);
  }
  static void fetch(const char *port, int address) {
    if (cycles::recorder().active()) cycles::recorder().port(port, address, false);
  }
  static void put(const char *port, int address) {
    if (cycles::recorder().active()) cycles::recorder().port(port, address, true);
  }
  static void begin(const char *region, int step) {
    if (cycles::recorder().active()) cycles::recorder().begin(region, step);
  }
  static void end() {
    if (cycles::recorder().active()) cycles::recorder().end();
  }
};

}  // namespace codesign
