// Frames of every shape below through both forms of the layer. stdin: raw offsets and codes as integers, in the
// order of the calls; stdout: results, io_parallel then io_stream.
#include "ap_fixed.h"
#include "hls_stream.h"
#include "nnet_types.h"

#include "nnet_square_deform.h"

#include <iostream>

typedef ap_fixed<8, 4> raw_t; // 1/16 steps, negative too
typedef ap_int<8> code_t;
typedef ap_int<20> sum_t;

template <int H, int W, int C, int S, int D, int BITS> struct config : nnet::square_deform_config {
    static const int in_height = H;
    static const int in_width = W;
    static const int out_height = (H - 1) / S + 1;
    static const int out_width = (W - 1) / S + 1;
    static const int n_chan = C;
    static const int stride_height = S;
    static const int stride_width = S;
    static const int max_offset = D;
    typedef sum_t accum_t;
    typedef ap_int<4> weight_t;
    typedef ap_int<12> bias_t;
    typedef ap_ufixed<BITS, BITS, AP_RND_CONV, AP_SAT> offset_t;
};

static int number() {
    int value;
    std::cin >> value;
    return value;
}

template <class config_t> void frames(int count) {
    const int h = config_t::in_height, w = config_t::in_width, c = config_t::n_chan;
    const int oh = config_t::out_height, ow = config_t::out_width;
    static typename config_t::weight_t weights[9 * config_t::n_chan];
    static typename config_t::bias_t biases[config_t::n_chan];
    for (int i = 0; i < 9 * c; i++)
        weights[i] = number();
    for (int i = 0; i < c; i++)
        biases[i] = number();
    for (int n = 0; n < count; n++) {
        static code_t x[config_t::in_height * config_t::in_width * config_t::n_chan];
        static raw_t d[config_t::out_height * config_t::out_width];
        static sum_t y[config_t::out_height * config_t::out_width * config_t::n_chan];
        hls::stream<nnet::array<code_t, config_t::n_chan>> xs;
        hls::stream<nnet::array<raw_t, 1>> ds;
        hls::stream<nnet::array<sum_t, config_t::n_chan>> ys;
        for (int i = 0; i < h * w; i++) {
            nnet::array<code_t, config_t::n_chan> pixel;
            for (int k = 0; k < c; k++)
                pixel[k] = x[i * c + k] = number();
            xs.write(pixel);
        }
        for (int i = 0; i < oh * ow; i++) {
            nnet::array<raw_t, 1> raw;
            raw[0] = d[i] = raw_t(number() / 16.0);
            ds.write(raw);
        }
        nnet::square_deform_2d_cl<code_t, raw_t, sum_t, config_t>(x, d, y, weights, biases);
        nnet::square_deform_2d_cl<nnet::array<code_t, config_t::n_chan>, nnet::array<raw_t, 1>,
                                  nnet::array<sum_t, config_t::n_chan>, config_t>(xs, ds, ys, weights, biases);
        for (int i = 0; i < oh * ow * c; i++)
            std::cout << y[i] << "\n";
        for (int i = 0; i < oh * ow; i++) {
            nnet::array<sum_t, config_t::n_chan> result = ys.read();
            for (int k = 0; k < c; k++)
                std::cout << result[k] << "\n";
        }
        std::cout << (xs.empty() && ds.empty() && ys.empty() ? "empty" : "left over") << "\n";
    }
}

int main() {
    frames<config<7, 9, 3, 1, 3, 2>>(3);
    frames<config<7, 6, 2, 2, 5, 3>>(3);
    frames<config<1, 1, 1, 1, 7, 3>>(2);
    frames<config<4, 1, 2, 2, 8, 4>>(2);
    frames<config<3, 12, 1, 1, 1, 1>>(2);
    return 0;
}
