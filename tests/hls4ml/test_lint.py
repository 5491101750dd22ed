"""The layer's C++ as both synthesis tools would read it, by our linter. hls4ml's own headers are stood in for."""

import pytest

pytest.importorskip("clang.cindex", reason="libclang: not installed, expected the extra [test]")

from codesign.hls4ml.registry import HEADERS
from tests.hlslint import lint

NAME = "nnet_square_deform.h"
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
TOP = """#include "hls_stream.h"
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
void deform(hls::stream<pixel_t> &x, hls::stream<step_t> &d, hls::stream<sum_t> &y, ap_int<4> w[36], ap_int<8> b[4]) {
#pragma HLS INTERFACE axis port=x
#pragma HLS INTERFACE axis port=d
#pragma HLS INTERFACE axis port=y
#pragma HLS INTERFACE ap_memory port=w
#pragma HLS INTERFACE ap_memory port=b
    nnet::square_deform_2d_cl<pixel_t, step_t, sum_t, config>(x, d, y, w, b);
}
"""


def findings(dialect, header):
    files = {NAME: header, "nnet_common.h": COMMON, "nnet_types.h": TYPES, "top.cpp": TOP}
    return [str(finding) for finding in lint(files, dialect, "deform") if finding.file == NAME]


@pytest.mark.parametrize("dialect", ["vivado", "vitis"])
def test_nothing_is_found_in_the_layer(dialect):
    assert findings(dialect, (HEADERS / NAME).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("dialect", ["vivado", "vitis"])
def test_faults_in_the_layer_are_found(dialect):
    text = (HEADERS / NAME).read_text(encoding="utf-8")
    for right, wrong in (("variable=sums", "variable=summs"), ("PIPELINE II=", "PIPELNE II=")):
        assert right in text
        assert findings(dialect, text.replace(right, wrong)) != []
