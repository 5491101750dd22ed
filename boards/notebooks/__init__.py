"""Notebooks for the board; `pynq get-notebooks` delivers them by the entry point pynq.notebooks."""
