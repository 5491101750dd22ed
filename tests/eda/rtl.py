"""Verilog of the same structure as units of the engine, to be synthesized beside our count of them.

Generated after the contracts of hls_templates/*.hpp, a unit or a lane of it each; not what a vendor's tool makes of the
C++. A register lies behind each operation, as codesign/resources.py counts them. Every module has a port `clk`.
"""

from __future__ import annotations

SHIFT = 19  # between the sums of a pair: DotProducts of exact/numbers.hpp
SUM = 44  # bits of both sums of a chain


def memory(name: str, words: int, bits: int, style: str = "") -> str:
    """One port to read, one to write."""
    wide = max(1, (words - 1).bit_length())
    chosen = f'(* ram_style = "{style}" *) ' if style else ""
    return f"""
module {name}(input clk, input we, input [{wide - 1}:0] wa, ra, input [{bits - 1}:0] d, output reg [{bits - 1}:0] q);
  {chosen}reg [{bits - 1}:0] words [0:{words - 1}];
  always @(posedge clk) begin
    if (we) words[wa] <= d;
    q <= words[ra];
  end
endmodule
"""


def fifo(name: str, words: int, bits: int) -> str:
    """A stream: shift registers read at an address, and the word that leaves."""
    wide = (words - 1).bit_length()
    return f"""
module {name}(input clk, input push, input [{wide - 1}:0] at, input [{bits - 1}:0] d, output reg [{bits - 1}:0] q);
  genvar i;
  generate
    for (i = 0; i < {bits}; i = i + 1) begin : line
      reg [{words - 1}:0] shifted;
      always @(posedge clk) begin
        if (push) shifted <= {{shifted[{words - 2}:0], d[i]}};
        q[i] <= shifted[at];
      end
    end
  endgenerate
endmodule
"""


def packed_chain(name: str, inputs: int, acc_bits: int) -> str:
    """Two weights in each multiplier, products summed in a chain, the sums apart again, and accumulated."""
    text = f"""
module {name}(input clk, input begins, high_half,
           input [{9 * inputs - 1}:0] acts, input [{5 * inputs - 1}:0] lows, highs,
           output reg signed [{acc_bits - 1}:0] low, output reg signed [{acc_bits - 1}:0] high);
  wire signed [{SUM - 1}:0] sum0 = 0;
"""
    for i in range(inputs):
        late_act, late_low, late_high = (f"late_{what}{i}_{i}" for what in ("act", "low", "high"))
        text += f"  wire [8:0] late_act{i}_0 = acts[{9 * i} +: 9];\n"
        text += f"  wire [4:0] late_low{i}_0 = lows[{5 * i} +: 5], late_high{i}_0 = highs[{5 * i} +: 5];\n"
        for late in range(i):
            after = f"{i}_{late + 1}"
            text += f"  reg [8:0] late_act{after};\n  reg [4:0] late_low{after}, late_high{after};\n"
            text += "  always @(posedge clk) begin\n"
            for what in ("act", "low", "high"):
                text += f"    late_{what}{i}_{late + 1} <= late_{what}{i}_{late};\n"
            text += "  end\n"
        text += f"""
  reg signed [23:0] pair{i};
  reg signed [8:0] act{i};
  reg signed [32:0] product{i};
  reg signed [{SUM - 1}:0] sum{i + 1};
  always @(posedge clk) begin
    pair{i} <= ($signed({late_high}) <<< {SHIFT}) + $signed({late_low});
    act{i} <= {late_act};
    product{i} <= pair{i} * act{i};
    sum{i + 1} <= sum{i} + product{i};
  end
"""
    upper = 33 + inputs.bit_length() - 1 - SHIFT
    return (
        text
        + f"""
  wire signed [{SHIFT - 1}:0] lower = sum{inputs}[{SHIFT - 1}:0];
  wire signed [{SUM - 1}:0] rest = sum{inputs} - lower;
  reg signed [{SHIFT - 1}:0] low_sum;
  reg signed [{upper - 1}:0] high_sum;
  always @(posedge clk) begin
    low_sum <= lower;
    high_sum <= rest[{SHIFT + upper - 1}:{SHIFT}];
    low <= (begins ? 0 : low) + (high_half ? low_sum <<< 4 : low_sum);
    high <= (begins ? 0 : high) + (high_half ? high_sum <<< 4 : high_sum);
  end
endmodule
"""
    )


def _rows(name: str, a: str, a_bits: int, b: str, b_bits: int) -> str:
    """A signed product without DSPs: rows of partial products, each added to those before."""
    bits = a_bits + b_bits
    text = f"  wire signed [{bits - 1}:0] {name}_0 = {b}[0] ? {a} : 0;\n"
    for i in range(1, b_bits):
        kept = f"{name}_{i - 1}"
        sign = "-" if i == b_bits - 1 else "+"
        row = f"$signed({kept}[{bits - 1}:{i}]) {sign} ({b}[{i}] ? {a} : 0)"
        text += f"  wire signed [{a_bits}:0] {name}_row{i} = {row};\n"
        text += f"  wire signed [{bits - 1}:0] {name}_{i} = $signed({{{name}_row{i}, {kept}[{i - 1}:0]}});\n"
    return text + f"  wire signed [{bits - 1}:0] {name} = {name}_{b_bits - 1};\n"


def window_lane(name: str) -> str:
    """Nine products of 9 x 8 bits and the tree of their sum."""
    text = f"\nmodule {name}(input clk, input [80:0] acts, input [71:0] weights, output signed [20:0] sum);\n"
    terms, bits = [], 17
    for tap in range(9):
        text += f"""
  reg signed [8:0] act{tap};
  reg signed [16:0] product{tap};
  wire [7:0] weight{tap} = weights[{8 * tap} +: 8];
{_rows(f"full{tap}", f"act{tap}", 9, f"weight{tap}", 8)}
  always @(posedge clk) begin
    act{tap} <= acts[{9 * tap} +: 9];
    product{tap} <= full{tap};
  end
"""
        terms.append(f"product{tap}")
    while len(terms) > 1:
        bits, pairs, after = bits + 1, len(terms) // 2, []
        for i in range(pairs):
            made = f"sum{bits}_{i}"
            text += f"  reg signed [{bits - 1}:0] {made};\n"
            text += f"  always @(posedge clk) {made} <= {terms[2 * i]} + {terms[2 * i + 1]};\n"
            after.append(made)
        terms = after + terms[2 * pairs :]
    return text + f"  assign sum = {terms[0]};\nendmodule\n"


def requantizer_lane(name: str) -> str:
    """Scale::apply of exact/numbers.hpp: add, multiply by 8 bits, shift half to even, clamp."""
    return f"""
module {name}(input clk, input signed [31:0] acc, bias, input [7:0] mult, input signed [7:0] shift,
           input signed [8:0] low, high, output reg signed [8:0] result);
  reg signed [32:0] sum;
  reg [7:0] factor;
  reg signed [7:0] by;
  reg signed [40:0] product, rounded;
  reg signed [9:0] small;
  reg [5:0] right;
  reg [3:0] left, left_then;
  reg positive, positive_then;
  wire [8:0] positive_factor = {{1'b0, factor}};
{_rows("full", "sum", 33, "positive_factor", 9)}
  wire odd = product >>> right;
  wire signed [42:0] half = (43'sd1 <<< (right - 1)) - 1;
  wire signed [18:0] shifted = small <<< left_then;
  always @(posedge clk) begin
    sum <= acc + bias;
    factor <= mult;
    by <= shift;
    product <= full;
    right <= by < 1 ? 1 : by > 42 ? 42 : by;
    left <= by > 0 ? 0 : by < -9 ? 9 : -by;
    positive <= by > 0;
    rounded <= (product + half + $signed({{1'b0, odd}})) >>> right;
    small <= product < -512 ? -512 : product > 511 ? 511 : product;
    left_then <= left;
    positive_then <= positive;
    if (positive_then) result <= rounded < low ? low : rounded > high ? high : rounded;
    else result <= shifted < low ? low : shifted > high ? high : shifted;
  end
endmodule
"""


def choice(name: str, inputs: int, bits: int) -> str:
    """One of so many words."""
    wide = max(1, (inputs - 1).bit_length())
    words, last = inputs * bits - 1, bits - 1
    return f"""
module {name}(input clk, input [{words}:0] words, input [{wide - 1}:0] which, output reg [{last}:0] word);
  always @(posedge clk) word <= words[which * {bits} +: {bits}];
endmodule
"""


def product(name: str, bits: int) -> str:
    """Of two integers of a program, the lower half."""
    return f"""
module {name}(input clk, input signed [{bits - 1}:0] a, b, output reg signed [{bits - 1}:0] p);
  reg signed [{bits - 1}:0] kept_a, kept_b;
  always @(posedge clk) begin
    kept_a <= a;
    kept_b <= b;
    p <= kept_a * kept_b;
  end
endmodule
"""
