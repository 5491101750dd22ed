// ap_int.h -- stand-in for the linter: what code may call, without what it does.
#pragma once

template <int W>
struct ap_range {
  operator unsigned long long() const;
  unsigned to_uint() const;
  int to_int() const;
  template <class T>
  ap_range &operator=(const T &value);
};

struct ap_bit {
  operator bool() const;
  template <class T>
  ap_bit &operator=(const T &value);
};

// Wide values as they are, arithmetic as on the host's integers.
template <int W, class I>
struct ap_integer {
  operator I() const;
  int to_int() const;
  unsigned to_uint() const;
  long long to_int64() const;
  unsigned long long to_uint64() const;
  bool to_bool() const;
  int length() const;
  ap_range<W> range(int high, int low);
  ap_range<W> range(int high, int low) const;
  ap_range<W> operator()(int high, int low);
  ap_range<W> operator()(int high, int low) const;
  ap_bit operator[](int index);
  bool operator[](int index) const;
  template <class T>
  ap_integer &operator+=(const T &value);
  template <class T>
  ap_integer &operator-=(const T &value);
  template <class T>
  ap_integer &operator*=(const T &value);
  template <class T>
  ap_integer &operator|=(const T &value);
  template <class T>
  ap_integer &operator&=(const T &value);
  template <class T>
  ap_integer &operator^=(const T &value);
  template <class T>
  ap_integer &operator<<=(const T &value);
  template <class T>
  ap_integer &operator>>=(const T &value);
  ap_integer &operator++();
  ap_integer &operator--();
};

template <int W>
struct ap_int : ap_integer<W, long long> {
  ap_int();
  template <class T>
  ap_int(const T &value);
};

template <int W>
struct ap_uint : ap_integer<W, unsigned long long> {
  ap_uint();
  template <class T>
  ap_uint(const T &value);
};
