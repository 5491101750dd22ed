"""Names of parts, as far as the stand-in tools know them: the families of our boards, in the vendor's spelling."""

from __future__ import annotations

import re

_FORMS = (
    r"xc7z0(?:07s|10|12s|14s|15|20|30|35|45)i?(?:clg|cl|ffg|fbg|sbg)\d{3}-[123]L?",
    r"xa7z0(?:10|20|30)(?:clg|fbv)\d{3}-[1I]",
    r"xczu(?:[1-9]|1[1579])(?:cg|eg|ev)-[a-z]{4}\d{3,4}-(?:1|1L|1LV|2|2L|2LV|3)-[ei]",
    r"xck26-sfvc784-2LV-[ci]",
)


def known_part(name: str) -> bool:
    return any(re.fullmatch(form, name) for form in _FORMS)


def family(name: str) -> str:
    """What a .hwh calls it: zynq or zynquplus."""
    return "zynq" if name.startswith(("xc7z", "xa7z")) else "zynquplus"


def pieces(name: str) -> tuple[str, str, str]:
    """Device, package, speed grade, as a .hwh splits them."""
    zynq = re.fullmatch(r"x[ca](7z\d+s?i?)([a-z]+\d+)(-.*)", name)
    if zynq is not None:
        return zynq.group(1), zynq.group(2), zynq.group(3)
    device, package, speed = name.split("-")[:3]
    return device, package, f"-{speed}"
