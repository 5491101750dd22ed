// sim/misuse.hpp -- what streams were made to do that hardware would not forgive.
//
// Apart from hls_stream.h because a vendor's simulation brings an hls_stream.h of its own, which notes nothing
// here and prints its warnings instead.
#pragma once
#include <cstddef>

namespace hls {

// The first misuse of any stream since the last clear().
class Misuse {
 public:
  static const char *message() { return *first(); }
  static void report(const char *what) {
    if (*first() == NULL) *first() = what;
  }
  static void clear() { *first() = NULL; }

 private:
  static const char **first() {
    static thread_local const char *message = NULL;
    return &message;
  }
};

}  // namespace hls
