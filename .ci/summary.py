"""Add up the JUnit files of several pytest runs; nothing may be skipped, since here all is there."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter


def main(paths: list[str]) -> int:
    """Print what was skipped, then one line of sums; return 0 when everything passed."""
    count: Counter[str] = Counter()
    for path in paths:
        for suite in ET.parse(path).iter("testsuite"):
            count.update({name: int(suite.attrib[name]) for name in ("tests", "failures")})
            count.update({name: int(suite.attrib[name]) for name in ("errors", "skipped")})
        for case in ET.parse(path).iter("testcase"):
            if case.find("skipped") is not None:
                print(f"skipped: {case.attrib['classname']}::{case.attrib['name']}")
    wrong = count["failures"] + count["errors"] + count["skipped"]
    print(f"{count['tests'] - wrong} passed, {wrong} failed")
    return 1 if wrong or not count["tests"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
