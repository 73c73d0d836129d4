"""Speak in a real browser: the voice is on the pointer's clock, and its words find their times."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect
from scipy.signal import resample_poly

from data_tools.localized_narratives import export_collection
from data_tools.speech.voices import RATE
from loctex.records.narrative import Narrative, read_jsonl
from tests.browser.conftest import Studio
from tests.browser.test_annotate import circle, only, open_collection, saved, start, wait_for
from tests.data_tools.espeak import speak
from ui.assets import static

CLICKING = """() => { // in place of the microphone: a stream on which clicks are put
  navigator.mediaDevices.getUserMedia = async () => {
    const context = new AudioContext({ sampleRate: 48000 });
    const to = context.createMediaStreamDestination();
    const click = context.createBuffer(1, 480, 48000);
    click.getChannelData(0).forEach((_, i, all) => { all[i] = i % 12 < 6 ? 0.5 : -0.5; });
    window.clickNow = () => {
      const source = context.createBufferSource();
      source.buffer = click;
      source.connect(to);
      source.start();
    };
    await context.resume();
    return to.stream;
  };
}"""
HEARING = """() => { // the pointer jumps when the page itself hears a click in its microphone
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted), context = new AudioContext({ sampleRate: 48000 });
    const ear = context.createAnalyser(), heard = new Float32Array(ear.fftSize = 16384);
    context.createMediaStreamSource(stream.clone()).connect(ear);
    await context.resume();
    let last = 0;
    setInterval(() => {
      ear.getFloatTimeDomainData(heard);
      const now = performance.now(), end = heard.findLastIndex((v) => Math.abs(v) > 0.2);
      const at = now - (heard.length - end) / 48 - 10; // a click has 480 samples
      if (end < 480 || end > heard.length - 96 || at - last < 200) return;
      window.jump(last = at);
    }, 1);
    return stream;
  };
}"""
JUMPING = """() => { // the pointer, at once at the other side
  let side = 0.25;
  window.jump = (at) => {
    const frame = document.querySelector('.frame'), box = frame.getBoundingClientRect();
    const event = new PointerEvent('pointermove', {
      isPrimary: true, pointerType: 'mouse', bubbles: true,
      clientX: box.left + box.width * (side = 1 - side), clientY: box.top + box.height / 2,
    });
    if (at) Object.defineProperty(event, 'timeStamp', { value: at });
    frame.dispatchEvent(event);
  };
}"""
CLICKS = """async ([seconds, every]) => { // a click and a jump of the pointer at the same moment
  const until = performance.now() + 1000 * seconds;
  while (performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, every * (0.8 + 0.4 * Math.random())));
    window.clickNow();
    window.jump();
  }
  await new Promise((resolve) => setTimeout(resolve, 300)); // the last one is still on its way
}"""


def choose(page: Page, way: str) -> None:
    page.get_by_role("radio", name=way).click()
    page.wait_for_selector(f"[data-mode={way.lower()}][data-state=idle]")


def voice_of(studio: Studio, name: str) -> np.ndarray:
    """(S,) int16 of a stored WAV."""
    samples, rate = soundfile.read(studio.root / name, dtype="int16")
    assert rate == RATE and samples.ndim == 1
    return samples


def click_times(samples: np.ndarray) -> np.ndarray:
    """Seconds at which clicks begin."""
    loud = np.flatnonzero(np.abs(samples.astype(int)) > 5000)
    return loud[np.diff(loud, prepend=-RATE) > RATE // 10] / RATE


def jump_times(told: Narrative) -> np.ndarray:
    """Seconds at which the pointer went to the other side."""
    points = np.concatenate(told.strokes)
    return points[np.flatnonzero(np.abs(np.diff(points[:, 0], prepend=-1)) > 0.2), 2]


def agree(clicks: np.ndarray, jumps: np.ndarray) -> None:
    """Clicks and jumps, pair by pair, are at the same times."""
    late = 1000 * (clicks - jumps)  # milliseconds
    offset, drift = np.median(late), np.polyfit(jumps, late, 1)[0] * np.ptp(jumps)
    print(
        f"\n{len(late)} clicks in {np.ptp(jumps):.0f} s: offset {offset:.1f} ms, drift "
        f"{drift:.1f} ms, farthest {np.abs(late).max():.1f} ms"
    )
    assert abs(offset) <= 30 and abs(drift) <= 30 and np.abs(late).max() <= 60


@pytest.mark.parametrize("seconds", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_clicks_in_the_voice_and_jumps_of_the_pointer_are_on_one_clock(page, studio, seconds):
    for script in (CLICKING, JUMPING):
        page.add_init_script(f"({script})()")
    store, collection = open_collection(page, studio, f"clicks {seconds}")
    choose(page, "Speak")
    expect(page.locator(".heard")).to_contain_text("Say something")
    page.keyboard.press("Space")
    wait_for(page, "recording")
    page.evaluate("window.clickNow()")  # the first one of a stream is not heard by anybody
    page.evaluate(CLICKS, [seconds, 500])
    page.keyboard.press("Enter")
    wait_for(page, "review")
    page.keyboard.type("click")
    page.keyboard.press("Control+Enter")
    saved(page, "done")

    told = only(store, collection)
    voice = voice_of(studio, told.voice)
    clicks, jumps = click_times(voice), jump_times(told)
    assert len(clicks) == len(jumps) > seconds  # two a second where the machine is quiet
    agree(clicks, jumps)
    assert len(voice) / RATE == pytest.approx(seconds, abs=2)


@pytest.fixture
def speaking(browser_type, browser_type_launch_args, tmp_path):
    """Opens a page whose microphone is Chromium's fake one: it plays samples at 48 kHz, or says a
    sentence, again and again."""
    opened = []

    def open_page(sound: str | np.ndarray) -> Page:
        if isinstance(sound, str):
            voice, _ = speak(sound)
            sound = np.concatenate((resample_poly(voice.astype(float), 3, 1), np.zeros(24_000)))
        soundfile.write(tmp_path / "said.wav", sound.astype(np.int16), 48_000)
        arguments = [
            *browser_type_launch_args["args"],
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-audio-capture={tmp_path / 'said.wav'}",
        ]
        opened.append(browser_type.launch(**browser_type_launch_args | {"args": arguments}))
        return opened[-1].new_page(viewport={"width": 1440, "height": 900})

    yield open_page
    for browser in opened:
        browser.close()


@pytest.mark.slow
def test_clicks_in_the_fake_microphone_are_on_the_pointers_clock(speaking, own_studio):
    seconds, draw = 20, np.random.default_rng(0)
    sound = np.zeros(48_000 * seconds, np.int16)
    for at in np.cumsum(draw.uniform(0.4, 0.6, 2 * seconds)):
        if at < seconds - 0.3:
            sound[int(48_000 * at) :][:480] = np.where(np.arange(480) % 12 < 6, 16_000, -16_000)
    page = speaking(sound)
    for script in (HEARING, JUMPING):
        page.add_init_script(f"({script})()")
    store, collection = open_collection(page, own_studio, "fake")
    choose(page, "Speak")
    expect(page.locator(".heard")).to_contain_text("Say something")
    page.keyboard.press("Space")
    wait_for(page, "recording")
    page.wait_for_function(f"document.querySelector('.clock span').textContent >= '0:{seconds}'")
    page.keyboard.press("Enter")
    wait_for(page, "review")
    page.keyboard.type("click")
    page.keyboard.press("Control+Enter")
    saved(page, "done")

    told = only(store, collection)
    clicks, jumps = click_times(voice_of(own_studio, told.voice)), jump_times(told)
    inner = jumps[(jumps > 0.2) & (jumps < told.duration - 0.2)]
    assert len(inner) > seconds and abs(len(clicks) - len(inner)) <= 2
    agree(clicks[np.abs(clicks - inner[:, None]).argmin(axis=1)], inner)


def speak_for(page: Page, seconds: float) -> None:
    """A take from the fake microphone, with a round of the pointer; in review."""
    choose(page, "Speak")
    expect(page.locator(".heard")).to_contain_text("Say something")
    box = start(page)
    circle(page, box)
    page.wait_for_function(
        f"document.querySelector('.clock span').textContent >= '0:{seconds:02.0f}'"
    )
    page.keyboard.press("Enter")
    wait_for(page, "review")


def test_a_spoken_take_is_heard_timed_corrected_stored_and_exported(speaking, own_studio, tmp_path):
    page = speaking("a small cat is sleeping on the sofa")
    store, collection = open_collection(page, own_studio, "spoken")
    speak_for(page, 5)
    expect(page.locator(".wave canvas")).to_be_visible()
    page.keyboard.type("a small cat is sleeping on the sofa")
    page.keyboard.press("Enter")
    expect(page.locator(".saved")).to_contain_text("words found", timeout=60_000)
    spans = page.locator(".lane span")
    expect(spans).to_have_count(8)
    cat = page.locator(".lane span", has_text="cat")
    before = cat.get_attribute("title")
    cat.focus()
    page.keyboard.press("ArrowRight")
    expect(cat).not_to_have_attribute("title", before)
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(cat).to_have_attribute("title", re.compile(before.split(",")[0]))
    page.keyboard.press("Space")
    page.wait_for_selector(".playing")
    page.wait_for_function("Number(document.querySelector('.seek').value) > 0.5")
    page.keyboard.press("Control+Enter")
    saved(page, "done")

    told = only(store, collection)
    voice = voice_of(own_studio, told.voice)
    assert len(voice) / RATE == pytest.approx(told.duration, abs=0.5) and len(voice) > 4 * RATE
    assert np.abs(voice.astype(int)).max() > 2000
    starts = [word.start for word in told.words]
    assert starts == sorted(starts) and starts[-1] - starts[0] > 1
    assert not list((own_studio.root / "voices" / "drafts").iterdir())
    export_collection(store, collection, tmp_path / "out")
    (record,) = read_jsonl(tmp_path / "out" / "narratives.jsonl")
    assert record.voice.endswith(".ogg")
    heard, rate = soundfile.read(tmp_path / "out" / record.voice)
    assert rate == RATE and len(heard) == len(voice)


def test_a_collection_that_keeps_no_voices_has_the_times_and_no_voice(speaking, own_studio):
    page = speaking("a red ball on the grass")
    store, collection = open_collection(page, own_studio, "consent")
    page.get_by_role("button", name="What this collection asks").click()
    page.get_by_label("Question").fill("What grows here?")
    page.get_by_label("Delete voices").check()
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".question")).to_have_text("What grows here?")
    speak_for(page, 3)
    page.keyboard.type("a red ball on the grass")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".saved")).to_contain_text("submitted", timeout=60_000)
    told = only(store, collection)
    assert told.voice is None and told.words[-1].start > told.words[0].start
    assert [path.name for path in (own_studio.root / "voices").rglob("*.*")] == []


def test_without_a_microphone_the_page_says_what_to_do(page, studio):
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = undefined;"
        "Object.defineProperty(navigator, 'mediaDevices', {value: undefined});"
    )
    open_collection(page, studio, "plain http")
    choose(page, "Speak")
    expect(page.locator(".note")).to_contain_text("secure pages only")
    choose(page, "Type")
    wait_for(page, "idle")


# --- the parts, on a clock of their own

BLOCKS = """([seconds, rate, level, gap]) => { // a tone; gap: seconds lost after 3 s
  let now = 5000;
  performance.now = Date.now = () => now;
  const microphone = new Microphone(() => {}), voice = new Voice(), num = 128;
  microphone.context = { sampleRate: rate };
  microphone.heardAt = now;
  microphone.start(voice, now, 0);
  for (let frame = 0; frame < seconds * rate; frame += num) {
    const sound = Float32Array.from({ length: num }, (_, i) => (
      level * Math.sin((frame + i) / rate * 2 * Math.PI * 250)));
    const late = 2 + 9 * ((frame / num * 7919) % 11) / 11; // ms until it is had
    now = 5000 + 1000 * (frame + num) / rate + late + (frame > 3 * rate ? 1000 * gap : 0);
    microphone.onBlock({ sound, frame, at: now });
  }
  return voice.wav().arrayBuffer().then((bytes) => ({
    wav: btoa(Array.from(new Uint8Array(bytes), (b) => String.fromCharCode(b)).join("")),
    warning: microphone.warning, num: voice.length, piece: voice.piece(100, 50),
  }));
}"""


def taped(page: Page, seconds: float, rate: int = RATE, level: float = 0.5, gap: float = 0) -> dict:
    page.goto("about:blank")
    page.add_script_tag(content=static("voice.js"))
    told = page.evaluate(BLOCKS, [seconds, rate, level, gap])
    told["samples"], told["rate"] = soundfile.read(
        io.BytesIO(base64.b64decode(told["wav"])), dtype="int16"
    )
    return told


@pytest.mark.parametrize("rate", [RATE, 48_000, 44_100])
def test_what_came_in_blocks_is_one_tone_at_16_khz(page, rate):
    told = taped(page, 4, rate)
    samples = told["samples"].astype(float)
    assert told["rate"] == RATE and len(samples) == told["num"] == pytest.approx(4 * RATE, abs=300)
    spectrum = np.abs(np.fft.rfft(samples[: 2 * RATE] * np.hanning(2 * RATE)))
    assert spectrum.argmax() / 2 == 250
    spectrum[490:511] = 0  # the tone
    assert spectrum.max() < (1e-3 if rate == RATE else 0.03) * 0.5 * 32768 * RATE / 2
    piece = np.frombuffer(base64.b64decode(told["piece"]["pcm"]), "<i2")
    assert told["piece"]["at"] == 100 and np.array_equal(piece, told["samples"][100:150])


def test_after_a_gap_the_voice_is_back_on_the_clock(page):
    told = taped(page, 10, gap=1.0)
    assert told["num"] / RATE == pytest.approx(11, abs=0.03)


@pytest.mark.parametrize("level, says", [(1.0, "Too loud"), (0.001, "Nothing is heard"), (0.3, "")])
def test_a_voice_too_loud_or_not_heard_is_told(page, level, says):
    warning = taped(page, 5, level=level)["warning"]
    assert warning.startswith(says) and bool(warning) == bool(says)
