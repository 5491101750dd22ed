// hls_stream.h -- stand-in for the linter: what code may call, without what it does.
#pragma once

namespace hls {

template <class T>
struct stream {
  stream();
  explicit stream(const char *name);
  bool empty() const;
  bool full() const;
  T read();
  void read(T &value);
  bool read_nb(T &value);
  void write(const T &value);
  bool write_nb(const T &value);
  unsigned size() const;

 private:
  stream(const stream &);
  stream &operator=(const stream &);
};

}  // namespace hls
