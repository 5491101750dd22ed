// Square deformable depthwise 3x3 convolution, a layer for hls4ml (Vivado and Vitis backends), channels last.
//
//   d    = min(RHE(clip(offset[p][q], 0, ..)), max_offset)
//   y[p][q][c] = bias[c] + sum over i, j in {-1, 0, 1} of
//                w[3 * (i + 1) + j + 1][c] * x[stride_height * p + i * d][stride_width * q + j * d][c]
//
// Samples outside the map are zero. Exact where accum_t holds every sum, which codesign.hls4ml sees to; res_t then
// rounds and saturates as it says. The offset may be any type: offset_t rounds it half to even and saturates.
//
// io_stream: x and offset arrive in pixel order, one word a pixel; y leaves in pixel order. A ring of
// 2 * max_offset + 2 rows holds the map: 2 * max_offset + 1 are read while one is filled, so one pixel is taken a turn,
// and a row of results leaves max_offset + 1 rows behind. Turns: (in_height + max_offset + 1) * in_width, each of at
// least two cycles: a row's memory has two ports and is read at columns x - d, x and x + d. The pipeline drains after
// each row.
//
// io_parallel: x is in registers and read where the offset points, which is a choice among all of them: for small maps.
#pragma once

#include "hls_stream.h"
#include "nnet_common.h"
#include "nnet_types.h"

namespace nnet {

struct square_deform_config {
  static const int in_height = 8;
  static const int in_width = 8;
  static const int out_height = 8;
  static const int out_width = 8;
  static const int n_chan = 4;
  static const int stride_height = 1;
  static const int stride_width = 1;
  static const int max_offset = 7;
  static const int turn = 2;  // cycles a pixel
  typedef float accum_t;
  typedef float weight_t;
  typedef float bias_t;
  typedef unsigned offset_t;  // holds max_offset, rounds half to even, saturates
};

template <typename CONFIG_T, class raw_T>
int square_deform_offset(raw_T raw) {
  #pragma HLS INLINE
  typename CONFIG_T::offset_t rounded = raw;
  const int d = (int)rounded;
  return d < CONFIG_T::max_offset ? d : CONFIG_T::max_offset;
}

template <typename CONFIG_T>
bool square_deform_inside(int row, int column) {
  #pragma HLS INLINE
  return row >= 0 && row < CONFIG_T::in_height && column >= 0 && column < CONFIG_T::in_width;
}

// ---- io_parallel ----
template <class data_T, class offset_T, class res_T, typename CONFIG_T>
void square_deform_2d_cl(data_T data[CONFIG_T::in_height * CONFIG_T::in_width * CONFIG_T::n_chan],
                         offset_T offset[CONFIG_T::out_height * CONFIG_T::out_width],
                         res_T res[CONFIG_T::out_height * CONFIG_T::out_width * CONFIG_T::n_chan],
                         typename CONFIG_T::weight_t weights[9 * CONFIG_T::n_chan],
                         typename CONFIG_T::bias_t biases[CONFIG_T::n_chan]) {
  #pragma HLS ARRAY_PARTITION variable=weights complete
  #pragma HLS ARRAY_PARTITION variable=biases complete
Rows:
  for (int p = 0; p < CONFIG_T::out_height; p++) {
  Columns:
    for (int q = 0; q < CONFIG_T::out_width; q++) {
      #pragma HLS PIPELINE II=CONFIG_T::turn
      const int pixel = p * CONFIG_T::out_width + q;
      const int d = square_deform_offset<CONFIG_T>(offset[pixel]);
    Channels:
      for (int c = 0; c < CONFIG_T::n_chan; c++) {
        #pragma HLS UNROLL
        typename CONFIG_T::accum_t sum = biases[c];
      Taps:
        for (int tap = 0; tap < 9; tap++) {
          #pragma HLS UNROLL
          const int row = p * CONFIG_T::stride_height + (tap / 3 - 1) * d;
          const int column = q * CONFIG_T::stride_width + (tap % 3 - 1) * d;
          if (square_deform_inside<CONFIG_T>(row, column)) {
            sum += data[(row * CONFIG_T::in_width + column) * CONFIG_T::n_chan + c] *
                   weights[tap * CONFIG_T::n_chan + c];
          }
        }
        res[pixel * CONFIG_T::n_chan + c] = sum;
      }
    }
  }
}

// ---- io_stream ----
template <class data_T, class offset_T, class res_T, typename CONFIG_T>
void square_deform_2d_cl(hls::stream<data_T> &data, hls::stream<offset_T> &offset, hls::stream<res_T> &res,
                         typename CONFIG_T::weight_t weights[9 * CONFIG_T::n_chan],
                         typename CONFIG_T::bias_t biases[CONFIG_T::n_chan]) {
  #pragma HLS ARRAY_PARTITION variable=weights complete
  #pragma HLS ARRAY_PARTITION variable=biases complete
  static const int ring = 2 * CONFIG_T::max_offset + 2;
  data_T rows[ring][CONFIG_T::in_width];  // what is read before it is filled lies outside the map
  #pragma HLS ARRAY_PARTITION variable=rows complete dim=1
  PRAGMA_DATA_PACK(rows)

  int filled = 0;                         // row of the ring that the arriving pixels go to
  int centre = CONFIG_T::max_offset + 1;  // row of the ring that holds row `middle` of the map
  int wait_rows = 0;                      // rows until the next row of results
Rows:
  for (int t = 0; t < CONFIG_T::in_height + CONFIG_T::max_offset + 1; t++) {
    const int middle = t - CONFIG_T::max_offset - 1;
    int wait_columns = 0;
  Columns:
    for (int x = 0; x < CONFIG_T::in_width; x++) {
      #pragma HLS PIPELINE II=CONFIG_T::turn
      #pragma HLS LOOP_FLATTEN off
      // A row is read once it is whole: the loop ends in between. What is read of the row that fills is not used.
      #pragma HLS DEPENDENCE variable=rows inter false
      if (t < CONFIG_T::in_height) {
        rows[filled][x] = data.read();
      }
      if (middle >= 0 && wait_rows == 0 && wait_columns == 0) {
        offset_T raw = offset.read();
        const int d = square_deform_offset<CONFIG_T>(raw[0]);
        data_T near[3][ring];
        #pragma HLS ARRAY_PARTITION variable=near complete dim=0
      Read:  // columns x - d, x and x + d of every row
        for (int j = 0; j < 3; j++) {
          #pragma HLS UNROLL
          const int column = x + (j - 1) * d;
          const int safe = column < 0 ? 0 : (column < CONFIG_T::in_width ? column : CONFIG_T::in_width - 1);
        Ring:
          for (int r = 0; r < ring; r++) {
            #pragma HLS UNROLL
            near[j][r] = rows[r][safe];
          }
        }
        res_T result;
        PRAGMA_DATA_PACK(result)
        typename CONFIG_T::accum_t sums[CONFIG_T::n_chan];
        #pragma HLS ARRAY_PARTITION variable=sums complete
      Begin:
        for (int c = 0; c < CONFIG_T::n_chan; c++) {
          #pragma HLS UNROLL
          sums[c] = biases[c];
        }
      Taps:
        for (int tap = 0; tap < 9; tap++) {
          #pragma HLS UNROLL
          const int i = tap / 3 - 1, j = tap % 3;
          int from = centre + i * d;
          from = from < 0 ? from + ring : (from < ring ? from : from - ring);
          const data_T sample = near[j][from];
          if (square_deform_inside<CONFIG_T>(middle + i * d, x + (j - 1) * d)) {
          Add:
            for (int c = 0; c < CONFIG_T::n_chan; c++) {
              #pragma HLS UNROLL
              sums[c] += sample[c] * weights[tap * CONFIG_T::n_chan + c];
            }
          }
        }
      End:
        for (int c = 0; c < CONFIG_T::n_chan; c++) {
          #pragma HLS UNROLL
          result[c] = sums[c];
        }
        res.write(result);
      }
      wait_columns = wait_columns == 0 ? CONFIG_T::stride_width - 1 : wait_columns - 1;
    }
    filled = filled == ring - 1 ? 0 : filled + 1;
    centre = centre == ring - 1 ? 0 : centre + 1;
    if (middle >= 0) {
      wait_rows = wait_rows == 0 ? CONFIG_T::stride_height - 1 : wait_rows - 1;
    }
  }
}

}  // namespace nnet
