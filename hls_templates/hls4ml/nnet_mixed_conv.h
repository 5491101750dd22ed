// Convolution whose weights are a mixture that the frame decides, a layer for hls4ml (Vivado and Vitis backends),
// channels last:
//
//   W[i][j][c][o] = mixed_t(sum over k of gates[k] * bank[i][j][c][k][o])
//   y[p][q][o]    = factor[o] * (sum over i, j, c of W[i][j][c][o] * x[stride_height * p - pad_top + i]
//                                                                  [stride_width * q - pad_left + j][c]) + bias[o]
//
// Pixels outside the map are zero. mixed_t rounds half to even and saturates to the same number on both sides, in whole
// codes; mix_t and sum_t hold every sum; res_t rounds and saturates as it says.
//
// Mixing: filt_height * filt_width * n_chan cycles a frame, n_experts * n_filt products each. The bank is a memory of
// words of so many weights; the mixed weights are registers, for all are used at once, in `turn` cycles a pixel.
//
// io_stream: one word of gates a frame, taken before the first pixel, then pixels in order. filt_height - 1 rows are held.
// The FIFO of the map must hold it whole where the gates come from that map; hls4ml makes FIFOs as deep as their maps.
#pragma once

#include "hls_stream.h"
#include "nnet_common.h"
#include "nnet_types.h"

namespace nnet {

struct mixed_conv_config {
  static const int in_height = 8;
  static const int in_width = 8;
  static const int out_height = 8;
  static const int out_width = 8;
  static const int n_chan = 4;
  static const int n_filt = 4;
  static const int n_experts = 4;
  static const int filt_height = 1;
  static const int filt_width = 1;
  static const int stride_height = 1;
  static const int stride_width = 1;
  static const int pad_top = 0;
  static const int pad_bottom = 0;
  static const int pad_left = 0;
  static const int pad_right = 0;
  static const int turn = 1;  // cycles a pixel
  static const int n_taps = filt_height * filt_width * n_chan;
  static const int n_word = n_experts * n_filt;  // weights of a tap
  typedef float bank_t;
  typedef float mix_t;
  typedef float mixed_t;
  typedef float sum_t;
  typedef float factor_t;
  typedef float bias_t;
};

// The weights of a frame: mixed[tap][o], a tap being a place in the window and a channel.
template <class gate_T, typename CONFIG_T>
void mix_weights(gate_T &gates, typename CONFIG_T::bank_t bank[CONFIG_T::n_taps * CONFIG_T::n_word],
                 typename CONFIG_T::mixed_t mixed[CONFIG_T::n_taps * CONFIG_T::n_filt]) {
  #pragma HLS INLINE
Mix:
  for (int tap = 0; tap < CONFIG_T::n_taps; tap++) {
    #pragma HLS PIPELINE II=1
  MixFilters:
    for (int o = 0; o < CONFIG_T::n_filt; o++) {
      #pragma HLS UNROLL
      typename CONFIG_T::mix_t sum = 0;
    Experts:
      for (int k = 0; k < CONFIG_T::n_experts; k++) {
        #pragma HLS UNROLL
        sum += gates[k] * bank[tap * CONFIG_T::n_word + k * CONFIG_T::n_filt + o];
      }
      mixed[tap * CONFIG_T::n_filt + o] = sum;
    }
  }
}

// ---- io_parallel ----
template <class data_T, class gate_T, class res_T, typename CONFIG_T>
void mixed_conv_2d_cl(data_T data[CONFIG_T::in_height * CONFIG_T::in_width * CONFIG_T::n_chan],
                      gate_T gates[CONFIG_T::n_experts],
                      res_T res[CONFIG_T::out_height * CONFIG_T::out_width * CONFIG_T::n_filt],
                      typename CONFIG_T::bank_t bank[CONFIG_T::n_taps * CONFIG_T::n_word],
                      typename CONFIG_T::factor_t factors[CONFIG_T::n_filt],
                      typename CONFIG_T::bias_t biases[CONFIG_T::n_filt]) {
  #pragma HLS ARRAY_RESHAPE variable=bank cyclic factor=CONFIG_T::n_word
  #pragma HLS ARRAY_PARTITION variable=factors complete
  #pragma HLS ARRAY_PARTITION variable=biases complete
  typename CONFIG_T::mixed_t mixed[CONFIG_T::n_taps * CONFIG_T::n_filt];
  #pragma HLS ARRAY_PARTITION variable=mixed complete
  mix_weights<gate_T *, CONFIG_T>(gates, bank, mixed);
Rows:
  for (int p = 0; p < CONFIG_T::out_height; p++) {
  Columns:
    for (int q = 0; q < CONFIG_T::out_width; q++) {
      #pragma HLS PIPELINE II=CONFIG_T::turn
    Filters:
      for (int o = 0; o < CONFIG_T::n_filt; o++) {
        #pragma HLS UNROLL
        typename CONFIG_T::sum_t sum = 0;
      Window:
        for (int at = 0; at < CONFIG_T::filt_height * CONFIG_T::filt_width; at++) {
          #pragma HLS UNROLL
          const int row = p * CONFIG_T::stride_height - CONFIG_T::pad_top + at / CONFIG_T::filt_width;
          const int column = q * CONFIG_T::stride_width - CONFIG_T::pad_left + at % CONFIG_T::filt_width;
          if (row >= 0 && row < CONFIG_T::in_height && column >= 0 && column < CONFIG_T::in_width) {
          Channels:
            for (int c = 0; c < CONFIG_T::n_chan; c++) {
              #pragma HLS UNROLL
              sum += data[(row * CONFIG_T::in_width + column) * CONFIG_T::n_chan + c] *
                     mixed[(at * CONFIG_T::n_chan + c) * CONFIG_T::n_filt + o];
            }
          }
        }
        res[(p * CONFIG_T::out_width + q) * CONFIG_T::n_filt + o] = sum * factors[o] + biases[o];
      }
    }
  }
}

// ---- io_stream ----
template <class data_T, class gate_T, class res_T, typename CONFIG_T>
void mixed_conv_2d_cl(hls::stream<data_T> &data, hls::stream<gate_T> &gates, hls::stream<res_T> &res,
                      typename CONFIG_T::bank_t bank[CONFIG_T::n_taps * CONFIG_T::n_word],
                      typename CONFIG_T::factor_t factors[CONFIG_T::n_filt],
                      typename CONFIG_T::bias_t biases[CONFIG_T::n_filt]) {
  #pragma HLS ARRAY_RESHAPE variable=bank cyclic factor=CONFIG_T::n_word
  #pragma HLS ARRAY_PARTITION variable=factors complete
  #pragma HLS ARRAY_PARTITION variable=biases complete
  typename CONFIG_T::mixed_t mixed[CONFIG_T::n_taps * CONFIG_T::n_filt];
  #pragma HLS ARRAY_PARTITION variable=mixed complete
  static const int columns = CONFIG_T::in_width + CONFIG_T::pad_left + CONFIG_T::pad_right;
  static const int held = CONFIG_T::filt_height > 1 ? CONFIG_T::filt_height - 1 : 1;
  data_T rows[held][columns];  // the rows above the one that arrives, with the pads beside them
  #pragma HLS ARRAY_PARTITION variable=rows complete dim=1
  PRAGMA_DATA_PACK(rows)
  data_T window[CONFIG_T::filt_height][CONFIG_T::filt_width];
  #pragma HLS ARRAY_PARTITION variable=window complete dim=0

  gate_T open = gates.read();
  mix_weights<gate_T, CONFIG_T>(open, bank, mixed);
  int wait_rows = 0;  // rows until the next row of results
Rows:
  for (int t = -CONFIG_T::pad_top; t < CONFIG_T::in_height + CONFIG_T::pad_bottom; t++) {
    const bool whole = t >= CONFIG_T::filt_height - 1 - CONFIG_T::pad_top;
    int wait_columns = 0;
  Columns:
    for (int u = 0; u < columns; u++) {
      #pragma HLS PIPELINE II=CONFIG_T::turn
      #pragma HLS LOOP_FLATTEN off
      // A column is met once a row, and the loop ends in between.
      #pragma HLS DEPENDENCE variable=rows inter false
      const int x = u - CONFIG_T::pad_left;
      data_T pixel;
      if (t >= 0 && t < CONFIG_T::in_height && x >= 0 && x < CONFIG_T::in_width) {
        pixel = data.read();
      } else {
      Outside:
        for (int c = 0; c < CONFIG_T::n_chan; c++) {
          #pragma HLS UNROLL
          pixel[c] = 0;
        }
      }
    Shift:
      for (int i = 0; i < CONFIG_T::filt_height; i++) {
        #pragma HLS UNROLL
      ShiftRow:
        for (int j = 0; j < CONFIG_T::filt_width - 1; j++) {
          #pragma HLS UNROLL
          window[i][j] = window[i][j + 1];
        }
        window[i][CONFIG_T::filt_width - 1] = i < CONFIG_T::filt_height - 1 ? rows[i][u] : pixel;
      }
    Keep:
      for (int i = 0; i < CONFIG_T::filt_height - 1; i++) {
        #pragma HLS UNROLL
        rows[i][u] = window[i + 1][CONFIG_T::filt_width - 1];
      }
      if (whole && u >= CONFIG_T::filt_width - 1) {
        if (wait_rows == 0 && wait_columns == 0) {
          res_T result;
          PRAGMA_DATA_PACK(result)
        Filters:
          for (int o = 0; o < CONFIG_T::n_filt; o++) {
            #pragma HLS UNROLL
            typename CONFIG_T::sum_t sum = 0;
          Window:
            for (int at = 0; at < CONFIG_T::filt_height * CONFIG_T::filt_width; at++) {
              #pragma HLS UNROLL
            Channels:
              for (int c = 0; c < CONFIG_T::n_chan; c++) {
                #pragma HLS UNROLL
                sum += window[at / CONFIG_T::filt_width][at % CONFIG_T::filt_width][c] *
                       mixed[(at * CONFIG_T::n_chan + c) * CONFIG_T::n_filt + o];
              }
            }
            result[o] = sum * factors[o] + biases[o];
          }
          res.write(result);
        }
        wait_columns = wait_columns == 0 ? CONFIG_T::stride_width - 1 : wait_columns - 1;
      }
    }
    if (whole) {
      wait_rows = wait_rows == 0 ? CONFIG_T::stride_height - 1 : wait_rows - 1;
    }
  }
}

}  // namespace nnet
