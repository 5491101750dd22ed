"""`codesign export --finn`: a model file in the form that FINN's hardware layers are made of."""

from __future__ import annotations

from pathlib import Path

from codesign.cli_common import fail, note, print_json, working, write_beside


def export_for_finn(model: Path, output: Path | None, as_json: bool) -> None:
    """`model`: a model.onnx, a bundle, the name of a shipped model, or a run's folder with its model.onnx."""
    from collections import Counter

    from codesign.finn import export_finn
    from codesign.onnx_io import import_model
    from codesign.shipped import find_model

    source = find_model(model / "model.onnx" if (model / "model.onnx").is_file() else model)
    target = output or source.with_suffix(".finn.onnx")
    if target.resolve() == source.resolve():
        fail(f"{target}: is the model itself, expected another name. Choose another -o.")
    with working("Exporting"):
        written = export_finn(import_model(source), str(model))
        write_beside(target, written.SerializeToString())
    nodes = dict(Counter(node.op_type for node in written.graph.node))
    if as_json:
        print_json({"model": str(target), "nodes": nodes})
        return
    listed = ", ".join(f"{count} {name}" for name, count in sorted(nodes.items()))
    note(f"Wrote {target}: {listed}. What FINN is to do with it: docs/qonnx.md.")
