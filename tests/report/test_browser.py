"""The page in a real browser: nothing is fetched, sliders move pictures, nothing overflows a phone."""

import os
import shutil

import pytest
from reported import full
from toys import copied

from reverie.report import compare, report
from reverie.runs import load

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = "there is no Chromium: apt install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    run, other = full(folder / "a-run-with-a-name-that-is-longer-than-any-phone-is-wide"), copied(folder / "other")
    compare([load(run), load(other)], folder / "compare.html")
    return {"report": report(load(run)).page, "compare": folder / "compare.html"}


@pytest.fixture
def opened(browser, pages):
    """Opens a page; in the end there were no errors and nothing was fetched."""
    said, asked, tabs = [], [], []

    def open_(name, size, **options):
        tab = browser.new_page(viewport=size, **options)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(pages[name].as_uri())
        tabs.append(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in asked) == len(tabs)


def shown(tab, player):
    """The sources of the pictures that are seen."""
    return tab.eval_on_selector_all(
        f"#player-{player} .frames img", "all => all.filter(i => i.checkVisibility()).map(i => i.src)"
    )


@pytest.mark.parametrize("name", ["report", "compare"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_window(opened, name, size):
    tab = opened(name, size)
    tab.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    boxes = tab.eval_on_selector_all(".scroll", "all => all.map(b => b.getBoundingClientRect().right)")
    assert max(boxes) <= size["width"]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_text_of_the_curves_can_be_read(opened, size):
    heights = opened("report", size).eval_on_selector_all(
        ".panel svg text",
        "all => all.map(t => parseFloat(getComputedStyle(t).fontSize) * t.getCTM().a)",
    )
    assert len(heights) > 40
    assert min(heights) >= 11.5


@pytest.mark.parametrize(("player", "groups"), [("sheets", 1), ("denoising", 2)])
def test_a_slider_moves_the_pictures(opened, player, groups):
    tab = opened("report", DESKTOP)
    slider, output = tab.locator(f"#player-{player} input"), tab.locator(f"#player-{player} output")
    last, end = int(slider.get_attribute("max")), shown(tab, player)
    assert last >= 1
    assert len(end) == groups
    slider.fill("0")
    first = shown(tab, player)
    assert len(first) == groups
    assert all(a != b for a, b in zip(first, end, strict=True))
    said = output.inner_text()
    seen = [tab.locator(f"#player-{player} .groups").screenshot()]
    for step in range(1, last + 1):
        tab.keyboard.press("ArrowRight")
        assert slider.input_value() == str(step)
        assert output.inner_text() != said
        said = output.inner_text()
        assert slider.get_attribute("aria-valuetext") == said
    assert shown(tab, player) == end
    assert tab.locator(f"#player-{player} .groups").screenshot() != seen[0]
    tab.keyboard.press("ArrowRight")
    assert slider.input_value() == str(last)
    tab.keyboard.press("Home")
    assert shown(tab, player) == first
    tab.keyboard.press("End")
    tab.keyboard.press("ArrowLeft")
    assert slider.input_value() == str(last - 1)


def test_dragging_a_slider(opened):
    tab = opened("report", DESKTOP)
    slider, end = tab.locator("#player-denoising input"), shown(tab, "denoising")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2, steps=5)
    tab.mouse.up()
    assert slider.input_value() == "0"
    assert shown(tab, "denoising") != end


def test_play_runs_to_the_end_and_stops(opened):
    tab = opened("report", DESKTOP)
    button, slider = tab.locator("#player-denoising button"), tab.locator("#player-denoising input")
    button.click()
    assert button.get_attribute("aria-label") == "Pause"
    tab.wait_for_selector("#player-denoising button[aria-label=Play]")
    assert slider.input_value() == slider.get_attribute("max")


def test_details_open_and_the_contents_lead_there(opened):
    tab = opened("report", PHONE)
    setting = tab.get_by_role("rowheader", name="train.steps", exact=True)
    assert not setting.is_visible()
    tab.get_by_text("Every setting").click()
    assert setting.is_visible()
    tab.get_by_role("link", name="Environment and reproduction").click()
    assert tab.evaluate("location.hash") == "#reproduce"


def test_without_scripts_the_last_frame_is_seen_and_no_dead_button(browser, pages):
    context = browser.new_context(java_script_enabled=False, viewport=PHONE)
    tab = context.new_page()
    tab.goto(pages["report"].as_uri())
    for player, groups in (("sheets", 1), ("denoising", 2)):
        frames = tab.locator(f"#player-{player} .frames img")
        assert sum(frame.is_visible() for frame in frames.all()) == groups
        assert frames.last.is_visible()
        assert not tab.locator(f"#player-{player} button").is_visible()
    context.close()
