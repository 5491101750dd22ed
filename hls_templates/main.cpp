// main.cpp -- the test bench: runs frames from a file of vectors and compares what they leave in memory.
//
//   testbench vectors.bin [memory.bin]
//
// Exit status: 0 all equal, 1 a difference or an unexpected status, 2 the file cannot be used.
// memory.bin receives the memory as the last frame leaves it.
//
// A file is a sequence of 32-bit little-endian integers and bytes (codesign/csim.py writes it):
//   magic 0x56435453, lanes, memory words, program address, frames; then each frame:
//   expected status (-2: any, as long as the run ends)
//   number of patches, each: byte address, count, bytes        written before the run
//   number of checks, each: byte address, count, bytes, masks  compared after it, where the mask is not 0
#include <cstdio>
#include <vector>

#include "sim/memory.hpp"

namespace {

typedef std::vector<uint8_t> Bytes;

class Reader {
 public:
  explicit Reader(std::FILE *file) : file_(file), ok_(true) {}
  bool ok() const { return ok_; }
  int integer() {
    uint8_t b[4] = {0, 0, 0, 0};
    take(b, 4);
    return static_cast<int>(b[0] | unsigned(b[1]) << 8 | unsigned(b[2]) << 16 | unsigned(b[3]) << 24);
  }
  // Where a range of memory begins; `bytes` receives what the file holds for it.
  std::size_t range(std::size_t memory, Bytes &bytes) {
    const int address = integer(), count = integer();
    if (!ok_ || address < 0 || count < 0 || std::size_t(address) + std::size_t(count) > memory) {
      ok_ = false;
      return 0;
    }
    bytes.resize(std::size_t(count));
    take(bytes.data(), bytes.size());
    return std::size_t(address);
  }
  void take(uint8_t *to, std::size_t count) {
    if (count > 0 && std::fread(to, 1, count, file_) != count) ok_ = false;
  }

 private:
  std::FILE *file_;
  bool ok_;
};

int compare(const Bytes &memory, std::size_t address, const Bytes &expected, const Bytes &mask, int frame) {
  int different = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (mask[i] == 0 || memory[address + i] == expected[i]) continue;
    if (different++ < 10) {
      std::printf("frame %d, byte %lu: %d, expected %d\n", frame, static_cast<unsigned long>(address + i),
                  memory[address + i], expected[i]);
    }
  }
  return different;
}

int run(Reader &in, Bytes &memory) {
  const int magic = in.integer(), lanes = in.integer(), words = in.integer(), program = in.integer();
  const int frames = in.integer();
  if (!in.ok() || magic != 0x56435453 || lanes != Config::kLanes || words < 1) {
    std::printf("the vectors are not for this engine of %d lanes\n", int(Config::kLanes));
    return 2;
  }
  memory.assign(static_cast<std::size_t>(words) * Config::kLanes, 0);
  long different = 0;
  for (int frame = 0; frame < frames; ++frame) {
    const int expected = in.integer(), patches = in.integer();
    Bytes bytes, mask;
    for (int i = 0; in.ok() && i < patches; ++i) {
      const std::size_t address = in.range(memory.size(), bytes);
      if (!in.ok()) break;
      for (std::size_t j = 0; j < bytes.size(); ++j) memory[address + j] = bytes[j];
    }
    if (!in.ok()) break;
    const int status = codesign::simulate(memory.data(), words, program);
    if (status == -1 || (expected != -2 && status != expected)) {
      std::printf("frame %d: status %d, expected %d\n", frame, status, expected);
      ++different;
    }
    const int checks = in.integer();
    for (int i = 0; in.ok() && i < checks; ++i) {
      const std::size_t address = in.range(memory.size(), bytes);
      mask.resize(bytes.size());
      in.take(mask.data(), mask.size());
      if (in.ok()) different += compare(memory, address, bytes, mask, frame);
    }
  }
  if (!in.ok()) {
    std::printf("the vectors end early or leave the memory\n");
    return 2;
  }
  std::printf("%d frames, %ld differences\n", frames, different);
  return different == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char **argv) {
  std::FILE *file = argc >= 2 ? std::fopen(argv[1], "rb") : NULL;
  if (file == NULL) {
    std::printf("usage: testbench vectors.bin [memory.bin]\n");
    return 2;
  }
  Reader in(file);
  Bytes memory;
  const int result = run(in, memory);
  std::fclose(file);
  if (argc >= 3 && result != 2) {
    std::FILE *out = std::fopen(argv[2], "wb");
    if (out == NULL) return 2;
    const bool written = std::fwrite(memory.data(), 1, memory.size(), out) == memory.size();
    if (std::fclose(out) != 0 || !written) return 2;
  }
  return result;
}
