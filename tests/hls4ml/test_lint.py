"""The layer's C++ as both synthesis tools would read it, by our linter. hls4ml's own headers are stood in for."""

import pytest

pytest.importorskip("clang.cindex", reason="libclang: not installed, expected the extra [test]")

from codesign.hls4ml.registry import HEADERS
from tests.hlslint import lint

COMMON = """#pragma once
#include "ap_int.h"
#ifndef __VITIS_HLS__
#define TEXT(words) #words
#define AS_TEXT(words) TEXT(words)
#define PACK(name) HLS DATA_PACK variable=name
#define PRAGMA_DATA_PACK(name) _Pragma(AS_TEXT(PACK(name)))
#else
#define PRAGMA_DATA_PACK(name)
#endif
"""
TYPES = """#pragma once
namespace nnet {
template <class T, unsigned N> struct array {
    T data[N];
    T &operator[](unsigned i) { return data[i]; }
    const T &operator[](unsigned i) const { return data[i]; }
};
}
"""
DEFORM = """#include "hls_stream.h"
#include "nnet_square_deform.h"
struct config : nnet::square_deform_config {
    typedef ap_int<20> accum_t;
    typedef ap_int<4> weight_t;
    typedef ap_int<8> bias_t;
    typedef ap_uint<3> offset_t;
};
typedef nnet::array<ap_int<8>, 4> pixel_t;
typedef nnet::array<ap_uint<3>, 1> step_t;
typedef nnet::array<ap_int<20>, 4> sum_t;
void top(hls::stream<pixel_t> &x, hls::stream<step_t> &d, hls::stream<sum_t> &y, ap_int<4> w[36], ap_int<8> b[4]) {
#pragma HLS INTERFACE axis port=x
#pragma HLS INTERFACE axis port=d
#pragma HLS INTERFACE axis port=y
#pragma HLS INTERFACE ap_memory port=w
#pragma HLS INTERFACE ap_memory port=b
    nnet::square_deform_2d_cl<pixel_t, step_t, sum_t, config>(x, d, y, w, b);
}
"""


GATES = """#include "hls_stream.h"
#include "nnet_gates.h"
struct numbers {
    typedef ap_int<20> sum_t;
    typedef ap_int<4> factor_t;
    typedef ap_int<8> bias_t;
    typedef ap_uint<8> table_t;
    typedef ap_int<8> code_t;
};
struct sums : nnet::global_sum_config {
    typedef numbers::sum_t sum_t;
    typedef numbers::factor_t factor_t;
    typedef numbers::bias_t bias_t;
};
struct codes : nnet::code_table_config {
    typedef numbers::code_t code_t;
    typedef numbers::table_t table_t;
};
struct mix : nnet::channel_mix_config {
    typedef numbers::sum_t sum_t;
    typedef numbers::factor_t factor_t;
    typedef numbers::bias_t bias_t;
};
typedef nnet::array<ap_int<8>, 4> pixel_t;
typedef nnet::array<ap_uint<8>, 4> gate_t;
typedef hls::stream<pixel_t> map;
typedef hls::stream<gate_t> gates;
void top(map &x, map &u, map &y, map &means, map &z, gates &r, gates &q, ap_int<4> f[4], ap_int<8> b[4],
         ap_uint<8> table[256]) {
#pragma HLS INTERFACE axis port=x
#pragma HLS INTERFACE axis port=u
#pragma HLS INTERFACE axis port=y
#pragma HLS INTERFACE axis port=means
#pragma HLS INTERFACE axis port=z
#pragma HLS INTERFACE axis port=r
#pragma HLS INTERFACE axis port=q
#pragma HLS INTERFACE ap_memory port=f
#pragma HLS INTERFACE ap_memory port=b
#pragma HLS INTERFACE ap_memory port=table
    nnet::global_sum_cl<pixel_t, pixel_t, sums>(x, means, f, b);
    nnet::code_table_cl<pixel_t, gate_t, codes>(z, r, table);
    nnet::channel_mix_cl<pixel_t, gate_t, pixel_t, mix>(u, q, y, f, b);
}
"""
MIXED = """#include "hls_stream.h"
#include "nnet_mixed_conv.h"
struct config : nnet::mixed_conv_config {
    static const int filt_height = 3;
    static const int filt_width = 3;
    static const int n_taps = 36;
    typedef ap_int<8> bank_t;
    typedef ap_int<20> mix_t;
    typedef ap_int<4> mixed_t;
    typedef ap_int<20> sum_t;
    typedef ap_int<4> factor_t;
    typedef ap_int<8> bias_t;
};
typedef nnet::array<ap_int<8>, 4> pixel_t;
typedef nnet::array<ap_uint<8>, 4> gate_t;
void top(hls::stream<pixel_t> &x, hls::stream<gate_t> &r, hls::stream<pixel_t> &y, ap_int<8> w[576], ap_int<4> f[4],
         ap_int<8> b[4]) {
#pragma HLS INTERFACE axis port=x
#pragma HLS INTERFACE axis port=r
#pragma HLS INTERFACE axis port=y
#pragma HLS INTERFACE ap_memory port=w
#pragma HLS INTERFACE ap_memory port=f
#pragma HLS INTERFACE ap_memory port=b
    nnet::mixed_conv_2d_cl<pixel_t, gate_t, pixel_t, config>(x, r, y, w, f, b);
}
"""
TOPS = {"nnet_square_deform.h": DEFORM, "nnet_gates.h": GATES, "nnet_mixed_conv.h": MIXED}
FAULTS = {
    "nnet_square_deform.h": (("variable=sums", "variable=summs"), ("PIPELINE II=", "PIPELNE II=")),
    "nnet_gates.h": (("variable=sums", "variable=summs"), ("PIPELINE II=", "PIPELNE II=")),
    "nnet_mixed_conv.h": (("variable=mixed", "variable=mixd"), ("PIPELINE II=", "PIPELNE II=")),
}


def findings(dialect, name, header):
    files = {name: header, "nnet_common.h": COMMON, "nnet_types.h": TYPES, "top.cpp": TOPS[name]}
    return [str(finding) for finding in lint(files, dialect, "top") if finding.file == name]


def test_every_header_is_looked_at():
    assert sorted(TOPS) == sorted(path.name for path in HEADERS.glob("*.h"))


@pytest.mark.parametrize("dialect", ["vivado", "vitis"])
@pytest.mark.parametrize("name", TOPS)
def test_nothing_is_found_in_the_layers(dialect, name):
    assert findings(dialect, name, (HEADERS / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("dialect", ["vivado", "vitis"])
@pytest.mark.parametrize("name", TOPS)
def test_faults_in_the_layers_are_found(dialect, name):
    text = (HEADERS / name).read_text(encoding="utf-8")
    for right, wrong in FAULTS[name]:
        assert right in text
        assert findings(dialect, name, text.replace(right, wrong)) != []
