"""CoDeNet's operator ablation: one small detector, in which only the decoder's spatial operator changes.

variants.py     the operators, and what was published of them
runs.py         training and measuring, resumable
costs.py        parameters, MACs, cycles and DRAM bytes
results.py      table and picture of what has been run
"""
