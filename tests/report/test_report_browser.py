from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from equipoise.experiment.findings import Findings
from equipoise.report import render

READER = Path(__file__).with_name("reader.js")


def chromium(config: pytest.Config) -> str:
    found = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if found is None:
        if config.getoption("--require-services", default=False):
            pytest.fail("chromium is missing: apt-get install chromium")
        pytest.skip("chromium is missing: apt-get install chromium")
    return found


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 500])
def test_a_reader_can_use_the_page(rich: Findings, tmp_path: Path, request: pytest.FixtureRequest, width: int) -> None:
    page = tmp_path / "page.html"
    script = f"<script>{READER.read_text(encoding='utf-8')}</script></body>"
    page.write_text(render(rich).replace("</body>", script), encoding="utf-8")
    done = subprocess.run(
        [
            chromium(request.config), "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader",
            "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0", f"--window-size={width},900",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr
    said = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert said["up"] == sorted(said["up"])
    assert said["down"] == sorted(said["up"], reverse=True)
    assert len(said["up"]) == 32
    assert (said["truthOff"], said["truthOn"]) == ("none", "inline")
    assert said["dialog"] is True
    assert said["hidden"] is True
    assert said["alts"] == ["picture with hidden origin"]
    assert said["score"] == f"{said['right']} of 12; guessing gives 6."
    assert said["over"] is True
    assert said["theme"] == "dark"
    assert said["ground"] == "rgb(19, 20, 23)"
    assert said["closed"] == 0
    assert said["wide"] <= 0
    assert said["fetched"] == []
