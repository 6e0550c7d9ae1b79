"""The page and the film of `fusion story`, as a browser and ffprobe see them.  For developers.

    apt-get install chromium ffmpeg        (nothing else: the browser is driven through its debugging pipe)
    python tests/story_page.py [--fusion ./fusion] [--model DIR] [--keep DIR]

Makes a story of three scenes and looks at it: no console error, nothing from a network, pictures and sounds load, captions
switch at the stated times within 50 ms, keys and focus work, contrast, reduced motion, a page without JavaScript, hostile
texts; the film's durations are equal to the sample and its first picture is scene-1.png.  --keep leaves files and screenshots.
"""
import argparse, base64, json, math, os, pathlib, re, select, shutil, struct, subprocess, sys, tempfile, time, wave

failed = passed = 0
LATE = float(os.environ.get("LATE", 50))                  # ms; more where others use the machine too


def check(fact, what):
    global failed, passed
    if fact:
        passed += 1
    else:
        failed += 1
        print("FAILED", what)


# ---- the browser -----------------------------------------------------------------------------------------

class Browser:
    """Chromium, headless, by the DevTools protocol over descriptors 3 and 4: JSON texts that end in a NUL."""

    def __init__(self, folder):
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if not program:
            sys.exit("story_page.py: no chromium: apt-get install chromium")
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()

        def wire():
            read, write = os.dup(to_read), os.dup(to_write)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--mute-audio",
             f"--user-data-dir={folder}/profile", "--window-size=1000,900"],
            preexec_fn=wire, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.last, self.events, self.rest, self.session = 0, [], b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in "Page", "Runtime", "Log", "Network", "DOM", "Accessibility":
            self.call(domain + ".enable")

    def read(self, seconds):
        """The next message, or None when there is none in time."""
        end = time.monotonic() + seconds
        while b"\0" not in self.rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.back], [], [], left)[0]:
                return None
            some = os.read(self.back, 1 << 20)
            if not some:
                sys.exit("story_page.py: the browser closed")
            self.rest += some
        one, self.rest = self.rest.split(b"\0", 1)
        return json.loads(one)

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read(60)
            if answer is None:
                sys.exit(f"story_page.py: no answer to {method}")
            if answer.get("id") == self.last:
                if "error" in answer:
                    sys.exit(f"story_page.py: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if (event := self.read(left)) is not None:
                self.events.append(event)

    def eval(self, text):
        result = self.call("Runtime.evaluate", expression=text, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            sys.exit(f"story_page.py: {text}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def open(self, url):
        self.call("Page.navigate", url=url)
        for _ in range(100):
            self.wait(0.1)
            if self.call("Runtime.evaluate", expression="document.readyState")["result"].get("value") == "complete":
                break
        self.wait(0.3)

    def press(self, key, code=None, text=None):
        keys = {"Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, " ": 32, "Enter": 13}
        common = dict(key=key, code=code or ("Space" if key == " " else key), windowsVirtualKeyCode=keys[key])
        down = dict(common, text=text) if text else common
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)
        self.wait(0.05)

    def shot(self, path, whole=True):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def media(self, **features):
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": k.replace("_", "-"), "value": v} for k, v in features.items()])

    def close(self):
        self.call("Browser.close")
        self.process.wait(20)


# ---- the story -------------------------------------------------------------------------------------------

SCRIPT = """title: A day & a night at the "lake" <script>alert(1)</script>
lang: en

scene: a serene lake at sunrise, with mist over the water
sound: birds and small waves
seconds: 2

scene: a market in the rain <img src=x onerror=alert(2)>
seconds: 2.4
narration: voice.wav
says: It rains & nobody minds <b>at all</b>.

scene: a cabin in the woods under the snow
sound: none
seconds: 1.6
"""


def make(options, folder):
    (folder / "script.txt").write_text(SCRIPT)
    with wave.open(str(folder / "voice.wav"), "wb") as w:
        w.setnchannels(1), w.setsampwidth(2), w.setframerate(22050)
        w.writeframes(b"".join(struct.pack("<h", int(6000 * math.sin(i * .05))) for i in range(22050)))
    model = ["-m", options.model] if options.model else ["--sd", "tests/models/sd1", "--audioldm",
                                                         "tests/models/audioldm"]
    done = subprocess.run([options.fusion, "story", folder / "script.txt", "-o", folder / "out", "--seed", "7", "--steps",
                           "8", "--crossfade", "0.4", "--json", "-q", *model], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def probe(film, *what):
    out = subprocess.run(["ffprobe", "-v", "error", *what, "-of", "json", film], capture_output=True, text=True)
    check(not out.stderr, "ffprobe: " + out.stderr)
    return json.loads(out.stdout)


def pixels(path, *how):
    return subprocess.run(["ffmpeg", "-v", "error", "-i", path, *how, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
                          capture_output=True).stdout


def look_at_film(out, story):
    film = str(out / "story.avi")
    streams = probe(film, "-show_streams", "-count_frames")["streams"]
    kinds = {s["codec_type"]: s for s in streams}
    video, audio = kinds["video"], kinds["audio"]
    samples, frames, rate = int(audio["nb_frames"]), int(video["nb_read_frames"]), int(audio["sample_rate"])
    check(video["r_frame_rate"] == "25/1" and video["codec_name"] == "rawvideo", "film: 25 raw pictures a second")
    check(audio["codec_name"] == "pcm_s16le" and audio["channels"] == 1, "film: PCM")
    check(frames == story["frames"] and samples == story["samples"], "film: as told")
    check(frames * rate == samples * 25, f"film: {frames} pictures, {samples} samples at {rate} Hz")
    sound = subprocess.run(["ffmpeg", "-v", "error", "-i", film, "-f", "s16le", "-"], capture_output=True).stdout
    check(len(sound) == 2 * samples, "film: all samples decode")
    check(pixels(film, "-frames:v", "1") == pixels(str(out / "scene-1.png")), "film: begins with scene-1.png")
    check(pixels(film, "-vf", f"select=eq(n\\,{frames - 1})", "-vsync", "0") == pixels(str(out / "scene-3.png")),
          "film: ends with scene-3.png")


# ---- what the page must do -------------------------------------------------------------------------------

def look_loaded(b, scenes, story):
    check(b.eval("[...document.images].every(i => i.complete && (i.naturalWidth > 0 || !i.hasAttribute('src')))"),
          "pictures load")
    check(b.eval("document.querySelectorAll('figure img').length") == 3, "three scenes")
    sounds = b.eval("[...document.querySelectorAll('audio')].map(a => [a.readyState, a.duration, a.error])")
    check(len(sounds) == 4 and all(s[0] >= 1 and s[2] is None for s in sounds), f"sounds load: {sounds}")
    check(abs(sounds[0][1] - story["samples"] / story["rate"]) < 1e-3, "the sound is as long as the story")
    check(abs(sum(s[1] for s in sounds[1:]) - sounds[0][1]) < 1e-3, "the sounds of scenes add up")
    check(b.eval("document.scripts.length") == 1 and b.eval("document.querySelectorAll('b').length") == 0,
          "texts stay texts")
    check(b.eval("document.querySelector('h1').textContent") == SCRIPT.splitlines()[0][7:], "the title as written")
    starts = b.eval("[...document.querySelectorAll('figure')].map(f => +f.dataset.start)")
    check(starts == [round(1000 * s["captions"]) for s in scenes], f"starts of captions: {starts}")
    return starts


def look_captions(b, starts, vtt):
    """Play it all; a caption may come 50 ms early or late, by the sound's clock and by the wall's."""
    b.eval("""window.log = [];
        for (const id of ['said', 'spoken'])
          new MutationObserver(() => log.push([id, document.getElementById(id).textContent,
            1000 * document.getElementById('track').currentTime, performance.now()]))
            .observe(document.getElementById(id), { childList: true, characterData: true, subtree: true });
        (function begin() {                                        // the sound's device takes a moment to start
          const at = document.getElementById('track').currentTime;
          if (at > .2) window.zero = performance.now() - 1000 * at;
          else requestAnimationFrame(begin);
        })();""")
    b.press(" ")
    check(b.eval("document.getElementById('play').textContent") == "Pause", "Space plays")
    b.wait(7)
    check(b.eval("document.getElementById('play').textContent") == "Play", "the story ends by itself")
    log, zero = b.eval("log"), b.eval("zero")
    stated = [("said", s) for s in starts[1:]]
    for line in re.findall(r"narration-\d+\n(.*) --> (.*)\n", vtt):
        for t in line:
            h, m, s = t.split(":")
            stated.append(("spoken", round(1000 * (3600 * int(h) + 60 * int(m) + float(s)))))
    for kind in "said", "spoken":
        want, got = [t for k, t in stated if k == kind], [x for x in log if x[0] == kind]
        check(len(want) == len(got), f"{kind}: {len(got)} changes, want {len(want)}: {got}")
        for t, (_, text, at, wall) in zip(want, got):
            print(f"{kind:7} stated {t:5} ms: sound {at - t:+6.1f} ms, wall {wall - zero - t:+6.1f} ms   {text[:40]}")
            check(abs(at - t) <= LATE, f"{kind} at {at:.0f} ms of the sound, stated {t}")
            check(abs(wall - zero - t) <= LATE, f"{kind} at {wall - zero:.0f} ms of the wall's clock, stated {t}")


def look_keys(b, scenes):
    said = "document.getElementById('said').textContent"
    now = "document.getElementById('track').currentTime"
    b.press("Escape")
    check(b.eval(now) == 0 and b.eval(said) == scenes[0]["text"], "Escape returns to the beginning")
    b.press("ArrowRight")
    check(b.eval(said) == scenes[1]["text"], "the right arrow goes to the next scene")
    b.press("ArrowRight"), b.press("ArrowRight")
    check(b.eval(said) == scenes[2]["text"], "and stops at the last one")
    b.press("ArrowLeft")
    check(b.eval(said) == scenes[1]["text"], "the left arrow goes back")
    b.press("Escape")
    order, rings = [], []
    for _ in range(9):
        b.press("Tab")
        order.append(b.eval("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
        if b.eval("document.activeElement.tagName") != "AUDIO":                # the browser draws its own in there
            rings.append(b.eval("getComputedStyle(document.activeElement).outlineStyle"))
        if order[-1] == "play":
            b.press("Enter", text="\r"), b.wait(0.3)
            check(b.eval("!document.getElementById('track').paused"), "Enter on the button plays")
            b.press(" ", text=" ")
            check(b.eval("document.getElementById('track').paused"), "Space on the button stops, once")
            b.eval("document.getElementById('track').currentTime = 0")
        if order[-1] == "place":
            b.press("ArrowRight"), b.wait(0.2)
            check(0 < b.eval(now) < 1, "arrows on the slider move the slider")
            b.press("Escape"), b.wait(0.2)
    want = ["play", "previous", "next", "toggle", "place", "Sound of scene 1"]
    check([x for i, x in enumerate(order) if i == 0 or x != order[i - 1]][:6] == want, f"focus: {order}, want {want}")
    check(all(r != "none" for r in rings), f"focus is visible: {rings}")


def look_accessible(b):
    nodes = b.call("Accessibility.getFullAXTree")["nodes"]
    seen = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored")]
    for role in "button", "slider", "image", "heading", "Audio", "figure", "status", "listitem":
        check(any(r == role for r, _ in seen), f"a screen reader finds a {role}: {sorted(set(r for r, _ in seen))}")
    for role, name in seen:
        check(name or role not in ("button", "slider", "image", "Audio"), f"{role} has a name")


def luminance(rgb):
    return sum(f * (c / 12.92 if c <= .03928 else ((c + .055) / 1.055) ** 2.4)
               for f, c in zip((.2126, .7152, .0722), (x / 255 for x in rgb)))


def look_contrast(b, scheme):
    b.media(prefers_color_scheme=scheme)
    colours = b.eval("""['h1', '.quiet', '#said', '#heard', '#play', '#next', '#toggle', '#time', '#help', 'figcaption p',
        'figcaption .quiet', 'h2'].map(q => {
          const e = document.querySelector(q);
          let under = e;
          while (getComputedStyle(under).backgroundColor == 'rgba(0, 0, 0, 0)') under = under.parentElement;
          return [q, getComputedStyle(e).color, getComputedStyle(under).backgroundColor];
        })""")
    for name, ink, ground in colours:
        a, c = (luminance([float(x) for x in re.findall(r"[\d.]+", t)[:3]]) for t in (ink, ground))
        ratio = (max(a, c) + .05) / (min(a, c) + .05)
        check(ratio >= 4.5, f"contrast of {name}, {scheme}: {ratio:.2f}")


def look_motion(b, scenes):
    fade = 1000 * scenes[1]["start"] + 300 * scenes[1]["crossfade"]
    at = f"(document.getElementById('track').currentTime = {fade / 1000}, new Promise(r => setTimeout(r, 400)))"
    front = "[...document.getElementById('stage').children].map(i => [i.hidden, i.style.opacity])"
    b.eval(at)
    (hidden, _), (_, opacity) = b.eval(front)
    check(not hidden and abs(float(opacity) - .3) < .01, f"pictures fade: {hidden}, {opacity}")
    b.media(prefers_reduced_motion="reduce")
    b.eval("document.getElementById('track').currentTime = 0"), b.wait(0.3)
    b.eval(at)
    (hidden, _), (_, opacity) = b.eval(front)
    check(hidden and opacity == "1", "and do not where less motion is asked for")
    b.media()


def look_silent_clock(b, url):
    """Where the sound cannot play, the machine's clock carries the story."""
    b.open(url)
    b.eval("document.getElementById('track').src = 'data:audio/wav;base64,AAAA'"), b.wait(0.5)
    b.press(" "), b.wait(2.3)
    check(b.eval("document.getElementById('said').textContent").startswith("a market"), "plays without its sound")
    b.press("Escape")


def look(out, folder, scenes, story):
    b = Browser(folder)
    url = (out / "story.html").resolve().as_uri()
    b.open(url)
    b.shot(folder / "light.png")
    starts = look_loaded(b, scenes, story)
    look_captions(b, starts, (out / "story.vtt").read_text())
    look_keys(b, scenes)
    look_accessible(b)
    look_motion(b, scenes)
    for scheme in "light", "dark":
        look_contrast(b, scheme)
    b.shot(folder / "dark.png")
    b.media()
    b.call("Emulation.setDeviceMetricsOverride", width=340, height=800, deviceScaleFactor=2, mobile=True)
    b.wait(0.3)
    check(b.eval("document.documentElement.scrollWidth") <= 340, "no sideways scrolling on a telephone")
    b.shot(folder / "narrow.png")
    b.call("Emulation.clearDeviceMetricsOverride")
    errors = [e for e in b.events if e.get("method") == "Runtime.exceptionThrown"
              or e.get("method") == "Page.javascriptDialogOpening"
              or e.get("method") == "Log.entryAdded" and e["params"]["entry"]["level"] in ("error", "warning")
              or e.get("method") == "Runtime.consoleAPICalled" and e["params"]["type"] in ("error", "warning")]
    check(not errors, f"console: {json.dumps(errors)[:1500]}")
    asked = {e["params"]["request"]["url"].split(",")[0][:60] for e in b.events
             if e.get("method") == "Network.requestWillBeSent"}
    check(all(u.startswith(("data:", "file:", "about:")) for u in asked)
          and sum(u.startswith("file:") for u in asked) <= 1, f"asks for nothing outside: {asked}")
    look_silent_clock(b, url)
    b.call("Emulation.setScriptExecutionDisabled", value=True)
    b.open(url)
    b.shot(folder / "plain.png")
    root = b.call("DOM.getDocument")["root"]["nodeId"]
    for query, n in ("audio[controls]", 4), ("figure img", 3), (".scripted:not([hidden])", 0):
        found = b.call("DOM.querySelectorAll", nodeId=root, selector=query)["nodeIds"]
        check(len(found) == n, f"without JavaScript: {len(found)} of {query}, want {n}")
    b.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--fusion", default="./fusion")
    p.add_argument("--model")
    p.add_argument("--keep")
    options = p.parse_args()
    folder = pathlib.Path(options.keep or tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    try:
        *scenes, story = make(options, folder)
        look_at_film(folder / "out", story)
        look(folder / "out", folder, scenes, story)
    finally:
        shutil.rmtree(folder / "profile", ignore_errors=True)
        if not options.keep:
            shutil.rmtree(folder)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
