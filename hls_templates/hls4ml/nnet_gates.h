// Gates of a whole map, layers for hls4ml (Vivado and Vitis backends), channels last: what makes them and what they open.
//
//   global_sum_cl    y[c]       = factor[c] * (sum over all pixels of x[p][c]) + bias[c]
//   code_table_cl    y[p][c]    = table[code of x[p][c], its lower bits]
//   channel_mix_cl   y[p][c]    = factor[c] * (sum over k < n_parts of gates[k * n_out + c] * x[p][k * n_out + c]) + bias[c]
//
// Exact: sum_t holds every sum, products and the last addition have hls4ml's own exact types, and res_t alone rounds and
// saturates, as it says. code_t has the grid of the codes that a table is for.
//
// io_stream: one word a pixel. A sum takes a pixel a cycle and gives its word after the last. A mix takes the word of
// gates first, once a frame, and leaves its pixels where they are meanwhile: the FIFO of the map must hold it whole where
// the gates come from that map. hls4ml makes FIFOs as deep as their maps.
#pragma once

#include "hls_stream.h"
#include "nnet_common.h"
#include "nnet_types.h"

namespace nnet {

struct global_sum_config {
  static const int n_pixels = 64;
  static const int n_chan = 4;
  typedef float sum_t;
  typedef float factor_t;
  typedef float bias_t;
};

struct code_table_config {
  static const int n_pixels = 1;
  static const int n_chan = 4;
  static const int bits = 8;  // of a code; the table has 2^bits entries
  typedef unsigned code_t;
  typedef float table_t;
};

struct channel_mix_config {
  static const int n_pixels = 64;
  static const int n_out = 4;
  static const int n_parts = 1;
  static const int turn = 1;  // cycles a pixel
  typedef float sum_t;
  typedef float factor_t;
  typedef float bias_t;
};

template <typename CONFIG_T, class raw_T>
typename CONFIG_T::table_t table_entry(raw_T raw, typename CONFIG_T::table_t table[1 << CONFIG_T::bits]) {
  #pragma HLS INLINE
  typename CONFIG_T::code_t code = raw;
  ap_uint<CONFIG_T::bits> entry = code.range(CONFIG_T::bits - 1, 0);
  return table[entry];
}

// ---- io_parallel ----
template <class data_T, class res_T, typename CONFIG_T>
void global_sum_cl(data_T data[CONFIG_T::n_pixels * CONFIG_T::n_chan], res_T res[CONFIG_T::n_chan],
                   typename CONFIG_T::factor_t factors[CONFIG_T::n_chan],
                   typename CONFIG_T::bias_t biases[CONFIG_T::n_chan]) {
  #pragma HLS ARRAY_PARTITION variable=factors complete
  #pragma HLS ARRAY_PARTITION variable=biases complete
Channels:
  for (int c = 0; c < CONFIG_T::n_chan; c++) {
    #pragma HLS UNROLL
    typename CONFIG_T::sum_t sum = 0;
  Pixels:
    for (int p = 0; p < CONFIG_T::n_pixels; p++) {
      #pragma HLS PIPELINE II=1
      sum += data[p * CONFIG_T::n_chan + c];
    }
    res[c] = sum * factors[c] + biases[c];
  }
}

template <class data_T, class res_T, typename CONFIG_T>
void code_table_cl(data_T data[CONFIG_T::n_pixels * CONFIG_T::n_chan],
                   res_T res[CONFIG_T::n_pixels * CONFIG_T::n_chan],
                   typename CONFIG_T::table_t table[1 << CONFIG_T::bits]) {
Values:
  for (int i = 0; i < CONFIG_T::n_pixels * CONFIG_T::n_chan; i++) {
    #pragma HLS PIPELINE II=1
    res[i] = table_entry<CONFIG_T>(data[i], table);
  }
}

template <class data_T, class gate_T, class res_T, typename CONFIG_T>
void channel_mix_cl(data_T data[CONFIG_T::n_pixels * CONFIG_T::n_parts * CONFIG_T::n_out],
                    gate_T gates[CONFIG_T::n_parts * CONFIG_T::n_out],
                    res_T res[CONFIG_T::n_pixels * CONFIG_T::n_out],
                    typename CONFIG_T::factor_t factors[CONFIG_T::n_out],
                    typename CONFIG_T::bias_t biases[CONFIG_T::n_out]) {
  #pragma HLS ARRAY_PARTITION variable=factors complete
  #pragma HLS ARRAY_PARTITION variable=biases complete
Pixels:
  for (int p = 0; p < CONFIG_T::n_pixels; p++) {
    #pragma HLS PIPELINE II=CONFIG_T::turn
  Channels:
    for (int c = 0; c < CONFIG_T::n_out; c++) {
      #pragma HLS UNROLL
      typename CONFIG_T::sum_t sum = 0;
    Parts:
      for (int k = 0; k < CONFIG_T::n_parts; k++) {
        #pragma HLS UNROLL
        const int from = k * CONFIG_T::n_out + c;
        sum += data[p * CONFIG_T::n_parts * CONFIG_T::n_out + from] * gates[from];
      }
      res[p * CONFIG_T::n_out + c] = sum * factors[c] + biases[c];
    }
  }
}

// ---- io_stream ----
template <class data_T, class res_T, typename CONFIG_T>
void global_sum_cl(hls::stream<data_T> &data, hls::stream<res_T> &res,
                   typename CONFIG_T::factor_t factors[CONFIG_T::n_chan],
                   typename CONFIG_T::bias_t biases[CONFIG_T::n_chan]) {
  #pragma HLS ARRAY_PARTITION variable=factors complete
  #pragma HLS ARRAY_PARTITION variable=biases complete
  typename CONFIG_T::sum_t sums[CONFIG_T::n_chan];
  #pragma HLS ARRAY_PARTITION variable=sums complete
Begin:
  for (int c = 0; c < CONFIG_T::n_chan; c++) {
    #pragma HLS UNROLL
    sums[c] = 0;
  }
Pixels:
  for (int p = 0; p < CONFIG_T::n_pixels; p++) {
    #pragma HLS PIPELINE II=1
    data_T pixel = data.read();
  Channels:
    for (int c = 0; c < CONFIG_T::n_chan; c++) {
      #pragma HLS UNROLL
      sums[c] += pixel[c];
    }
  }
  res_T result;
  PRAGMA_DATA_PACK(result)
End:
  for (int c = 0; c < CONFIG_T::n_chan; c++) {
    #pragma HLS UNROLL
    result[c] = sums[c] * factors[c] + biases[c];
  }
  res.write(result);
}

template <class data_T, class res_T, typename CONFIG_T>
void code_table_cl(hls::stream<data_T> &data, hls::stream<res_T> &res,
                   typename CONFIG_T::table_t table[1 << CONFIG_T::bits]) {
  #pragma HLS ARRAY_PARTITION variable=table complete
Pixels:
  for (int p = 0; p < CONFIG_T::n_pixels; p++) {
    #pragma HLS PIPELINE II=1
    data_T pixel = data.read();
    res_T result;
    PRAGMA_DATA_PACK(result)
  Channels:
    for (int c = 0; c < CONFIG_T::n_chan; c++) {
      #pragma HLS UNROLL
      result[c] = table_entry<CONFIG_T>(pixel[c], table);
    }
    res.write(result);
  }
}

template <class data_T, class gate_T, class res_T, typename CONFIG_T>
void channel_mix_cl(hls::stream<data_T> &data, hls::stream<gate_T> &gates, hls::stream<res_T> &res,
                    typename CONFIG_T::factor_t factors[CONFIG_T::n_out],
                    typename CONFIG_T::bias_t biases[CONFIG_T::n_out]) {
  #pragma HLS ARRAY_PARTITION variable=factors complete
  #pragma HLS ARRAY_PARTITION variable=biases complete
  gate_T open = gates.read();
Pixels:
  for (int p = 0; p < CONFIG_T::n_pixels; p++) {
    #pragma HLS PIPELINE II=CONFIG_T::turn
    data_T pixel = data.read();
    res_T result;
    PRAGMA_DATA_PACK(result)
  Channels:
    for (int c = 0; c < CONFIG_T::n_out; c++) {
      #pragma HLS UNROLL
      typename CONFIG_T::sum_t sum = 0;
    Parts:
      for (int k = 0; k < CONFIG_T::n_parts; k++) {
        #pragma HLS UNROLL
        const int from = k * CONFIG_T::n_out + c;
        sum += pixel[from] * open[from];
      }
      result[c] = sum * factors[c] + biases[c];
    }
    res.write(result);
  }
}

}  // namespace nnet
