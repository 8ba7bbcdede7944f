"""The page at / in headless Chromium, as a person would use it: by keyboard, in the light and in the dark, on a phone.

With FASTEWQ_SCREENSHOTS=DIR the tests leave screenshots there; docs/images/ has those of the documentation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import fastewq
from fastewq.exports import TOOLS
from fastewq.policy import policies
from fastewq.predictor import OBJECTIVES, shipped_folder

from .server import Server

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; on Debian: apt-get install chromium")

DESK = {"width": 1100, "height": 1400}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page in a fresh browser, and everything that went wrong in it."""

    def __init__(self, browser: sync_api.Browser, url: str, viewport: dict[str, int], scheme: str) -> None:
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self.complaints.append(line.text) if "Security" in line.text else None)
        self.page.on("request", lambda request: self.hosts.add(re.sub(r"^(\w+://[^/]+).*", r"\1", request.url)))
        self.page.goto(url)

    def keep(self, name: str) -> None:
        if folder := os.environ.get("FASTEWQ_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.fixture
def visit(browser, server, request) -> Iterator[Visit]:
    viewport, scheme = getattr(request, "param", (DESK, "light"))
    visit = Visit(browser, server.url, viewport, scheme)
    yield visit
    visit.context.close()
    assert visit.complaints == []
    assert visit.hosts == {server.url}


LOOKS = [(DESK, "light"), (DESK, "dark"), (PHONE, "light")]


@pytest.mark.parametrize("visit", LOOKS, indirect=True, ids=["light", "dark", "phone"])
def test_a_config_is_planned_and_shown(visit, llama, request):
    page = visit.page
    page.fill("#config", json.dumps(llama))
    page.click("#plan")
    page.wait_for_selector("#result:not([hidden])")
    plan = fastewq.plan(llama)
    blocks = page.locator(".block")
    assert blocks.count() == 32
    assert [re.search(r": (\w+),", blocks.nth(i).get_attribute("aria-label"))[1] for i in range(32)] == [
        block.precision for block in plan.stacks[0].blocks
    ]
    assert "8,030,261,248" in page.inner_text("#totals")
    assert page.locator("#other tbody tr").count() == len(plan.other)
    assert page.locator("meter").count() == 8
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "the page is wider than the screen"
    )
    visit.keep(f"page-{request.node.callspec.id}")


def in_view(visit: Visit, element: str) -> bool:
    box = visit.page.locator(element).bounding_box()
    return box["y"] >= 0 and box["y"] + box["height"] <= visit.page.viewport_size["height"]


@pytest.mark.parametrize("visit", [(PHONE, "light"), (DESK, "dark")], indirect=True, ids=["phone", "dark"])
def test_a_model_of_many_stacks_and_parts_is_shown_at_a_readable_length(visit, request):
    page = visit.page
    page.fill("#config", json.dumps({"model_type": "vibevoice"}))
    page.click("#plan")
    page.wait_for_selector("#result:not([hidden])")
    assert in_view(visit, "#name")
    assert page.locator("#other tbody tr").count() > 30
    assert page.locator("#other").locator("..").bounding_box()["height"] < 400
    for strip in page.locator(".strip").all():  # in one row, without gaps
        boxes = [block.bounding_box() for block in strip.locator(".block").all()]
        assert {box["y"] for box in boxes} == {boxes[0]["y"]}
        assert all(right["x"] - left["x"] - left["width"] < 5 for left, right in pairwise(boxes))
    page.locator(".block").last.focus()
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    page.wait_for_function("() => document.activeElement.scrollTop > 0")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    visit.keep(f"page-stacks-{request.node.callspec.id}")


def test_everything_works_by_keyboard(visit, llama):
    page = visit.page
    page.focus("#config")
    page.keyboard.insert_text(json.dumps(llama))
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#result:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "name"
    page.keyboard.press("Tab")
    first = page.inner_text("#detail")
    page.keyboard.press("ArrowRight")
    second = page.inner_text("#detail")
    page.keyboard.press("End")
    assert [re.match(r"model\.layers\.\d+", text)[0] for text in (first, second, page.inner_text("#detail"))] == [
        "model.layers.0",
        "model.layers.1",
        "model.layers.31",
    ]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "tool"


def test_a_memory_budget_is_kept(visit, llama):
    page = visit.page
    page.fill("#config", json.dumps(llama))
    page.fill("#memory", "6GiB")
    page.click("#plan")
    page.wait_for_selector("#result:not([hidden])")
    expected = fastewq.plan(llama, memory="6GiB")
    assert f"{expected.totals.bytes / 2**30:.2f} GiB" in page.inner_text("#totals")


def test_a_checkpoint_that_is_quantized_already_is_shown_as_stored(visit, llama):
    page = visit.page
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
    page.fill("#config", json.dumps({**llama, "quantization_config": quantization}))
    page.click("#plan")
    page.wait_for_selector("#result:not([hidden])")
    assert "GiB (gptq)" in page.inner_text("#totals")
    assert page.locator("#legend li").first.inner_text() == "stored-int4, kept: 32 blocks"
    assert "already quantized (gptq)" in page.inner_text("#warnings")


def test_every_export_can_be_shown_and_copied(visit, llama):
    page = visit.page
    page.fill("#config", json.dumps(llama))
    page.click("#plan")
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#tool option").all_inner_texts() == list(TOOLS)
    for tool in TOOLS:
        page.select_option("#tool", tool)
        page.click("#export")
        if tool == "devices":
            page.wait_for_selector("#problem:not([hidden])")
            assert "devices" in page.inner_text("#problem")
            continue
        page.locator("#exported p", has_text=f"for {tool};").wait_for()
        article = page.locator("#exported article").last
        article.locator("button").click()
        # The page copies in its own time.
        copied = "async text => await navigator.clipboard.readText() === text"
        page.wait_for_function(copied, arg=article.locator("pre").text_content())
    page.select_option("#tool", "llama.cpp")
    page.click("#export")
    page.locator("#exported p", has_text="for llama.cpp;").wait_for()
    visit.keep("page-export")


@pytest.mark.parametrize("visit", [(PHONE, "light")], indirect=True)
def test_an_error_is_where_it_is_seen(visit, llama):
    page = visit.page
    page.fill("#config", json.dumps({**llama, "hidden_size": "x" * 300}))
    page.click("#plan")
    page.wait_for_selector("#problem:not([hidden])")
    assert in_view(visit, "#problem")
    page.fill("#config", json.dumps(llama))
    page.click("#plan")
    page.wait_for_selector("#result:not([hidden])")
    page.select_option("#tool", "devices")
    page.click("#export")
    page.wait_for_selector("#problem:not([hidden])")
    assert in_view(visit, "#problem")


@pytest.mark.parametrize(
    ("config", "model", "words"),
    [
        ("", "", "There is no model yet."),
        ("{", "", "the body is not JSON"),
        ('{"model_type": "unheard_of"}', "", "unheard_of"),
        ('{"model_type": "llama", "num_hidden_layers": -1}', "", "num_hidden_layers is -1"),
        ("", "org/name", "not looked up"),
    ],
)
def test_errors_are_shown_in_words(visit, config, model, words):
    page = visit.page
    page.fill("#config", config)
    page.fill("#model", model)
    page.click("#plan")
    page.wait_for_selector("#problem:not([hidden])")
    assert words in page.inner_text("#problem")
    assert not page.is_visible("#result")
    visit.keep("page-error")


def test_markup_in_a_config_is_only_text(visit, llama):
    page = visit.page
    attack = "<img src=x onerror=alert(1)>"
    page.on("dialog", lambda dialog: visit.complaints.append("a script of the config ran"))
    page.fill("#config", json.dumps({**llama, "model_type": attack}))
    page.click("#plan")
    page.wait_for_selector("#problem:not([hidden])")
    assert attack in page.inner_text("#problem")


def test_a_key_is_asked_for_where_one_is_needed(browser, tmp_path, llama):
    from fastewq.api.access import new_key

    key, line = new_key("page")
    (tmp_path / "keys").write_text(line, "utf-8")
    with Server(keys_file=tmp_path / "keys") as server:
        visit = Visit(browser, server.url, DESK, "light")
        page = visit.page
        page.fill("#config", json.dumps(llama))
        page.click("#plan")
        page.fill("#key", key)
        page.click("#plan")
        page.wait_for_selector("#result:not([hidden])")
        page.click("#export")
        page.wait_for_selector("#exported article")
        visit.context.close()


def test_the_policies_of_the_page_are_those_of_the_library(visit):
    options = visit.page.locator("#policy option").evaluate_all("options => options.map(o => o.value)")
    assert sorted(options) == sorted(policies(0.5, 0.5))


def test_the_objectives_of_the_page_are_those_of_the_library(visit):
    options = visit.page.locator("#objective option").evaluate_all("options => options.map(o => o.value)")
    assert options == ["", *OBJECTIVES]


def test_the_objective_is_chosen_by_keyboard_and_answered(visit, llama):
    page = visit.page
    page.fill("#config", json.dumps(llama))
    for objective in ("entropy", "sensitivity"):
        page.focus("#policy")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "objective"
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Control+Enter")
        page.wait_for_function(
            "name => !document.getElementById('result').hidden"
            " && document.getElementById('totals').innerText.endsWith(name)",
            arg=objective,
        )
        shown = page.locator(".block").evaluate_all("blocks => blocks.map(block => block.getAttribute('aria-label'))")
        expected = fastewq.plan(llama, objective=objective).stacks[0].blocks
        assert [re.search(r"probability ([\d.]+)", words)[1] for words in shown] == [
            f"{block.p_quantize:.2f}" for block in expected
        ]


def test_without_a_choice_the_service_decides_and_refuses_what_it_lacks(browser, llama):
    folder = shipped_folder("sensitivity")
    with Server(artefact=folder) as server:
        visit = Visit(browser, server.url, DESK, "light")
        page = visit.page
        page.fill("#config", json.dumps(llama))
        page.click("#plan")
        page.wait_for_selector("#result:not([hidden])")
        assert page.inner_text("#totals").endswith("sensitivity")
        page.select_option("#objective", "entropy")
        page.click("#plan")
        page.wait_for_selector("#problem:not([hidden])")
        assert "'entropy', which is not served here; expected sensitivity" in page.inner_text("#problem")
        visit.context.close()


def test_the_documentation_page_loads_everything_from_the_service(browser, server):
    visit = Visit(browser, server.url + "/docs", DESK, "light")
    visit.page.wait_for_selector(".opblock")
    assert visit.hosts == {server.url}
    assert visit.complaints == []
    visit.keep("docs")
    visit.context.close()


@pytest.mark.parametrize("path", ["/v1/plans", "/v1/plans/batch", "/v1/exports/{tool}"])
def test_the_documentation_page_answers_its_own_examples(browser, server, path):
    visit = Visit(browser, server.url + "/docs", DESK, "light")
    route = visit.page.locator(".opblock-post").filter(has=visit.page.locator(f"[data-path='{path}']"))
    route.locator(".opblock-summary-control").click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_role("button", name="Execute").click()
    status = route.locator(".live-responses-table .response-col_status").last
    status.wait_for()
    assert status.inner_text().split()[0] == "200"
    visit.context.close()
