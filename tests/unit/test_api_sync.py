"""`copy_sync` where it cannot work."""

from __future__ import annotations

import pytest

from crossdock import copy_sync


async def test_copy_sync_inside_a_running_loop_says_what_to_do_instead() -> None:
    with pytest.raises(RuntimeError, match=r"await crossdock\.copy\(\)"):
        copy_sync("oci:nowhere", "oci:elsewhere")
