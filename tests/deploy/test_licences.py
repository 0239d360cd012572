import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.sbom import DOCUMENT, LOCK

ROW = re.compile(r"\| ([^|]+) \| ([^|]+) \| ([^|]+) \|")


def test_the_table_lists_every_installed_package() -> None:
    """It has the versions of the lock file. If this test fails, `make sbom` rewrites the table."""
    lines = re.findall(r"^\w.*==.*(?= \\$)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    locked = [Requirement(line) for line in lines]
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert {(canonicalize_name(name), f"=={version}") for name, version, _ in rows[1:]} == {
        (canonicalize_name(one.name), str(one.specifier))
        for one in locked
        if one.marker is None or one.marker.evaluate({"sys_platform": "linux"})
    }
    assert all(licence.strip() for _, _, licence in rows)
    assert not any("GPL" in licence for _, _, licence in rows)
