"""Each rule finds a planted fault and nothing else; the sources of designs have none."""

import pytest

from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.plan import plan
from tests.engine.cases import CASES
from tests.engine.engines import generic
from tests.hlslint import lint
from tests.hlslint.__main__ import main
from tests.hlslint.grammar import DIALECTS, rules

VENDOR = """#pragma once
#define PRAGMA(text) _Pragma(#text)
#if defined(__VITIS_HLS__)
#define ONE_WORD(name) PRAGMA(HLS AGGREGATE variable = name)
#else
#define ONE_WORD(name) PRAGMA(HLS DATA_PACK variable = name)
#endif
"""
TOP = """#include <ap_int.h>
#include "vendor.hpp"
struct Pixel { int red; int green[4]; };
%s
int engine(const int *in, int *out, int n) {
  #pragma HLS INTERFACE m_axi port=in offset=slave bundle=in
  #pragma HLS INTERFACE m_axi port=out offset=slave bundle=out
  #pragma HLS INTERFACE s_axilite port=n bundle=control
  #pragma HLS INTERFACE s_axilite port=return bundle=control
%s
  return 0;
}
"""
PARTITION = "#pragma HLS ARRAY_PARTITION variable=%s complete\n"
LOOP = "L: for (int i = 0; i < n; ++i) {\n%s\n out[i] = in[i]; }"


def findings(globals_="", body="", dialect="vivado", **files):
    texts = {name.replace("_", "."): text for name, text in files.items()}
    return lint({"top.cpp": TOP % (globals_, body), "vendor.hpp": VENDOR, **texts}, dialect, "engine")


FAULTS = {
    "itself": ("recursion", "int f(int x) { return x ? f(x - 1) : 0; }", "out[0] = f(n);"),
    "two in a circle": (
        "recursion",
        "int g(int x);\nint f(int x) { return g(x); }\nint g(int x) { return x ? f(x - 1) : 0; }",
        "out[0] = f(n);",
    ),
    "a template": (
        "recursion",
        "template <class T> T f(T x) { return x ? f<T>(x - 1) : x; }",
        "out[0] = f<int>(n);",
    ),
    "a member": (
        "recursion",
        "template <class T> struct S { static int f(int x) { return x ? S<T>::f(x - 1) : 0; } };",
        "out[0] = S<int>::f(n);",
    ),
    "new": ("dynamic-memory", "", "int *p = new int; out[0] = *p;"),
    "delete": ("dynamic-memory", "", "delete out;"),
    "malloc": ("dynamic-memory", 'extern "C" void *malloc(unsigned long);', "malloc(4);"),
    "variable length": ("dynamic-memory", "", "int a[n]; a[0] = n; out[0] = a[0];"),
    "for ever": ("unbounded-loop", "", "L: for (;;) { out[0] = 1; }"),
    "for true": ("unbounded-loop", "", "L: for (int i = 0; true; ++i) { out[i] = 1; }"),
    "nothing counts": ("unbounded-loop", "", "int j = 0;\nL: for (int i = 0; i < n; ++j) { out[j] = 1; }"),
    "while true": ("unbounded-loop", "", "L: while (true) { out[0] = 1; }"),
    "while": ("unbounded-loop", "", "L: while (n > 0) { n /= 2; }"),
    "do": ("unbounded-loop", "", "L: do { out[0] = 1; } while (1);"),
    "printf": ("system-call", 'extern "C" int printf(const char *, ...);', 'printf("x");'),
    "printf in a template": (
        "system-call",
        'extern "C" int printf(const char *, ...);\ntemplate <class T> void f(T x) { printf("%d", x); }',
        "f<int>(n);",
    ),
    "exit": ("system-call", 'extern "C" void exit(int);', "exit(1);"),
    "container": (
        "std",
        "namespace std { template <class T> struct vector { T x; }; }",
        "std::vector<int> v; v.x = n; out[0] = v.x;",
    ),
    "try": ("exception", "int f() { try { return 1; } catch (...) { return 0; } }", "out[0] = f();"),
    "throw": ("exception", "", "if (n) throw 1;"),
    "virtual": ("virtual", "struct S { virtual int f() { return 1; } };", "S s; out[0] = s.f();"),
    "virtual base": ("virtual", "struct B { int x; };\nstruct S : virtual B {};", "S s; s.x = n;"),
    "dynamic_cast": (
        "virtual",
        "struct B { virtual int f() { return 1; } };\nstruct S : B {};",
        "B b; S *s = dynamic_cast<S *>(&b); out[0] = s != 0;",
    ),
    "static local": ("static-local", "", "static int calls = 0; out[0] = ++calls;"),
    "static local array": ("static-local", "", "static int calls[4]; out[0] = ++calls[n];"),
    "function pointer": ("function-pointer", "int f(int x) { return x; }", "int (*p)(int) = f; out[0] = p(n);"),
    "function reference": ("function-pointer", "int f(int x) { return x; }", "int (&p)(int) = f; out[0] = p(n);"),
    "pointers to functions": (
        "function-pointer",
        "typedef int (*F)(int);\nint f(int x) { return x; }",
        "F p[1] = {f}; out[0] = p[0](n);",
    ),
    "pointer to a pointer": ("pointer", "", "int **p = &out; (*p)[0] = n;"),
    "array of pointers in a struct": ("pointer", "struct S { int **rows; };", "S s; s.rows[0] = out;"),
    "pointer to a member": ("pointer", "", "int Pixel::*p = &Pixel::red; Pixel q; q.*p = n;"),
    "reinterpret_cast": ("pointer", "", "out[0] = *reinterpret_cast<const short *>(in);"),
    "goto": ("jump", "", "if (n) goto end;\nend: out[0] = 1;"),
    "no label": ("label", "", "for (int i = 0; i < n; ++i) out[i] = 1;"),
    "macro": ("macro", "#define N 4", "out[0] = N;"),
    "another library": ("include", "#include <opencv2/core.hpp>", ""),
    "unknown pragma": ("pragma-unknown", "", "#pragma HLS PIPELIN"),
    "empty pragma": ("pragma-unknown", "", "#pragma HLS"),
    "small letters": ("pragma-unknown", "", "#pragma hls INLINE"),
    "omp": ("pragma-unknown", "", "#pragma omp parallel"),
    "unknown flag": ("pragma-option", "", LOOP % "#pragma HLS PIPELINE fast"),
    "unknown key": ("pragma-option", "", LOOP % "#pragma HLS PIPELINE III=1"),
    "missing key": ("pragma-option", "", LOOP % "#pragma HLS LOOP_TRIPCOUNT min=1"),
    "twice": ("pragma-option", "", LOOP % "#pragma HLS PIPELINE II=1 II=2"),
    "no factor": ("pragma-option", "", "int a[4];\n#pragma HLS ARRAY_PARTITION variable=a cyclic\nout[0] = a[n];"),
    "no number": ("pragma-value", "", LOOP % "#pragma HLS PIPELINE II=1.5"),
    "no value": ("pragma-value", "", LOOP % "#pragma HLS PIPELINE II="),
    "value is a variable": ("pragma-value", "", LOOP % "#pragma HLS PIPELINE II=n"),
    "too many dimensions": (
        "pragma-value",
        "",
        "int a[4];\n#pragma HLS ARRAY_PARTITION variable=a complete dim=2\nout[0] = a[n];",
    ),
    "outside": ("pragma-place", "#pragma HLS INLINE", ""),
    "after a statement": ("pragma-place", "", LOOP % "out[0] = 1;\n#pragma HLS PIPELINE II=1"),
    "unroll without a loop": ("pragma-place", "void f() {\n#pragma HLS UNROLL\n}", "f();"),
    "inline in a loop": ("pragma-place", "", LOOP % "#pragma HLS INLINE"),
    "pipeline in an if": ("pragma-place", "", "if (n) {\n#pragma HLS PIPELINE\nout[0] = 1; }"),
    "far from its array": (
        "pragma-place",
        "",
        "int a[4];\n" + LOOP % PARTITION % "a" + "\nout[0] = a[n];",
    ),
    "no such array": ("pragma-variable", "", "int a[4];\n" + PARTITION % "b" + "out[0] = a[n];"),
    "no such member": ("pragma-variable", "", "Pixel p;\n" + PARTITION % "p.grey" + "p.red = n;"),
    "no such member by macro": ("pragma-variable", "", "Pixel p;\nONE_WORD(p.grey)\np.red = n;"),
    "not an array": ("pragma-variable", "", "int a;\n" + PARTITION % "a" + "out[0] = a;"),
    "declared later": ("pragma-variable", "", PARTITION % "a" + "int a[4]; out[0] = a[n];"),
    "of another scope": (
        "pragma-variable",
        "",
        "if (n) { int a[4]; out[0] = a[n]; }\n" + PARTITION % "a",
    ),
    "no such port": ("pragma-variable", "", "#pragma HLS INTERFACE s_axilite port=m bundle=control"),
    "axi port of a number": ("pragma-value", "", "#pragma HLS INTERFACE m_axi port=n offset=slave"),
    "offset": ("pragma-value", "", "#pragma HLS INTERFACE m_axi port=in offset=master"),
    "two modes": ("pragma-option", "", "#pragma HLS INTERFACE m_axi s_axilite port=in"),
    "interface below": (
        "pragma-interface",
        "void f(int *x) {\n#pragma HLS INTERFACE m_axi port=x offset=slave\nx[0] = 1; }",
        "f(out);",
    ),
    "unrolled n times": ("loop-bound", "", LOOP % "#pragma HLS UNROLL"),
    "variable loop in a pipeline": (
        "loop-bound",
        "",
        LOOP % "#pragma HLS PIPELINE\nM: for (int j = 0; j < n; ++j) out[j] = 1;",
    ),
    "code in a dataflow region": ("dataflow", "void f(int *x) {\n#pragma HLS DATAFLOW\nx[0] = 1; }", "f(out);"),
    "syntax": ("parse", "", "out[0] = nothing;"),
}  # fmt: skip
GOOD = {
    "constants": ("const int kTaps = 9;", "static const int kHalf = 4; out[0] = kHalf + kTaps;"),
    "counted loops": ("", "L: for (int i = n; i > 0; i -= 2) out[i] = 1;\nM: for (int i = 0; i != 8; ++i) out[i] = 1;"),
    "partial unrolling": ("", LOOP % "#pragma HLS UNROLL factor=2"),
    "members": ("", "Pixel p;\n#pragma HLS ARRAY_PARTITION variable=p.green complete dim=1\np.red = n;"),
    "by macro": ("", "Pixel p[4];\nONE_WORD(p)\np[n].red = n;"),
    "factor of a template": (
        "template <int N> int f(int x) {\n#pragma HLS PIPELINE II=N\nreturn x; }",
        "out[0] = f<4>(n);",
    ),
    "fixed loop in a pipeline": (
        "template <class C> void f(int *x) {\n#pragma HLS PIPELINE\nM: for (int j = 0; j < C::kN; ++j) x[j] = 1; }\n"
        "struct Config { static const int kN = 4; };",
        "f<Config>(out);",
    ),
    "calls of another overload in a chain": (
        "int g(int x) { return x; }\nint f(int x) { return g(g(x)); }",
        "out[0] = f(f(n));",
    ),
    "a member that is called as a function": (
        "struct Step { int window; };\nint window(const Step &step) { return step.window; }",
        "Step step; step.window = n; out[0] = window(step);",
    ),
    "ap_int": ("", "ap_int<9> a = n; ap_uint<64> b = 0; b.range(15, 8) = a; out[0] = b.range(3, 0).to_uint();"),
    "what nobody calls": ("int f(int x) { static int y = x; while (true) ++y; return f(y); }", ""),
    "types nobody uses": ("struct S { virtual int f() { return 1; } int **p; };", ""),
    "comments": ("// #pragma HLS NOTHING", "/*\n#pragma HLS NOTHING\n*/"),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name, dialect):
    rule, globals_, body = FAULTS[name]
    found = findings(globals_, body, dialect)
    assert {finding.rule for finding in found} == {rule}, "\n".join(map(str, found))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_found_in_good_code(name, dialect):
    assert findings(*GOOD[name], dialect) == []


def test_headers_of_the_standard_library_are_refused():
    assert findings("#include <vector>")[0][2:] == ("include", "vector is not for synthesis")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_pragmas_of_the_other_tool(dialect):
    """What vendor.hpp is for."""
    for name in rules(dialect).keys() - rules("vitis" if dialect == "vivado" else "vivado").keys():
        other = "vitis" if dialect == "vivado" else "vivado"
        found = findings("", f"Pixel p; p.red = n;\n#pragma HLS {name} variable=p", other)
        assert [f.rule for f in found] == ["pragma-unknown"], name


def test_structs_in_structs_cannot_be_packed():
    """By Vivado HLS; types are those that the top function instantiates."""
    code = """template <class T> struct Pack { T data[2]; };
template <class T> struct Types { typedef Pack<T> Row; typedef Pack<Row> Square; };
struct Both { Types<int>::Row row; ap_int<4> number; };
template <class T> void f(int n) {
  typename Types<T>::Row row[4];
  ONE_WORD(row)
  typename Types<T>::Square square;
  ONE_WORD(square)
  Both both[2];
  ONE_WORD(both)
}"""
    found = [(f.rule, f.text.split(",")[0]) for f in findings(code, "f<ap_int<3> >(n);")]
    inside = "is a struct in a struct"
    assert found == [("pragma-pack", f"square: data {inside}"), ("pragma-pack", f"both: row {inside}")]
    assert findings(code, "f<ap_int<3> >(n);", "vitis") == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_port_needs_an_interface(dialect):
    text = (TOP % ("", "")).replace("#pragma HLS INTERFACE s_axilite port=n bundle=control", "")
    found = lint({"top.cpp": text, "vendor.hpp": VENDOR}, dialect, "engine")
    assert [f[2:] for f in found] == [("pragma-interface", "no INTERFACE for n")]


def test_a_design_without_its_top_function():
    found = lint({"top.cpp": "int other() { return 0; }"}, "vivado", "engine")
    assert [str(f) for f in found] == ["top.cpp:1: parse: holds no function engine"]


def test_a_finding_says_where():
    found = findings("// one\n// two\nstruct S { int **rows; };", "S s; s.rows[0] = out;")
    assert [str(f) for f in found] == ["top.cpp:6: pointer: rows: a pointer to a pointer"]


def test_simulation_is_exempt():
    """A test bench may print and allocate; it is not read."""
    bench = "#include <vector>\nint main() { while (true) new int; }"
    assert findings(**{"main_cpp": bench, "sim/csim_cpp": bench}) == []


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "config", [EngineConfig(), generic(1), EngineConfig(ultra=1)], ids=["default", "one lane", "UltraRAM"]
)
def test_emitted_designs_have_no_finding(config, dialect):
    texts = sources(plan(CASES["max-pool"](), config=config).config)
    assert [str(f) for f in lint(texts, dialect, "codesign_engine")] == []


REAL = {
    "window.hpp": [
        ("CODESIGN_IN_BRAM(ring.bank)", "CODESIGN_IN_BRAM(ring.banks)", "pragma-variable"),
        ("variable=ring.bank complete dim=1", "variable=ring.bank complete dim=5", "pragma-value"),
        ("DEPENDENCE variable=ring.bank inter false", "DEPENDENCE variable=ring.bank inter no", "pragma-option"),
        ("Narrow:\n  for (int lane = 0; lane < C::kLanes", "Narrow:\n  for (int lane = 0; lane < sum[0]", "loop-bound"),
        ("sum[lane] += ", "weighted<C>(taps, weights); sum[lane] += ", "recursion"),
    ],
    "stages.hpp": [
        ("CODESIGN_ONE_WORD(tiles)", "CODESIGN_ONE_WORD(tile)", "pragma-variable"),
        ("  load_offsets<C>(step, off", "  if (step.window) load_offsets<C>(step, off", "dataflow"),
        ("  #pragma HLS DATAFLOW\n", "  int k = 0;\n  #pragma HLS DATAFLOW\n", "pragma-place"),
    ],
    "top.cpp": [("port=results offset", "port=result offset", "pragma-variable")],
    "exact/numbers.hpp": [("return type(0);", "return *new type(0);", "dynamic-memory")],
    "vendor.hpp": [("impl = bram", "core = bram", "pragma-option")],
}  # fmt: skip


@pytest.mark.parametrize("file", REAL)
def test_faults_in_an_emitted_design_are_found(file):
    """All faults of a file at once; each is found."""
    texts = sources(EngineConfig())
    for old, new, _ in REAL[file]:
        assert old in texts[file]
        texts[file] = texts[file].replace(old, new, 1)
    found = {(f.file, f.rule) for f in lint(texts, "vitis", "codesign_engine")}
    wanted = {rule for _, _, rule in REAL[file]}
    assert {rule for name, rule in found if name == file or file == "vendor.hpp"} == wanted, found


def test_the_linter_as_a_program(tmp_path, capsys):
    for name, text in sources(EngineConfig()).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "top.cpp").write_text((tmp_path / "top.cpp").read_text().replace("m_axi", "maxi", 1))
    assert main(tmp_path) == 1
    assert capsys.readouterr().out.startswith("vivado: top.cpp:")
