"""Paints a scene of the small world (world.py) as a picture: flat shapes, drawn twice as large as
asked and halved, then lit, rained on and styled. numpy and Pillow only; everything is drawn here.

    paint(scene, rng, size=128) -> uint8 [size, size, 3]     the same rng state gives the same bytes

`python weights/train/painter.py SHEET.png [SEED] [KEY=VALUE ...]` paints 24 captioned scenes (with
KEY=VALUE, only scenes that say so, for instance subject=cat) and prints milliseconds a picture.

What tells what: the subject by its silhouette and colours, in front and large; the setting by the
ground and what stands behind; the time by the colours of the sky and of the light; the weather by
clouds, drops, flakes, mist or lightning; the season by foliage and ground; the mood by the light.
"""
import sys
import time
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import world

# sky (top, bottom) and the light that multiplies every colour
SKY = {'day': ((84, 164, 236), (190, 226, 250)), 'sunrise': ((150, 156, 228), (255, 200, 136)),
       'sunset': ((92, 52, 120), (255, 116, 48)), 'night': ((10, 14, 46), (40, 52, 104))}
LIGHT = {'day': (1, 1, 1), 'sunrise': (1.04, 0.90, 0.84), 'sunset': (0.92, 0.66, 0.56), 'night': (0.40, 0.45, 0.70)}
GREY_SKY = {'cloudy': ((158, 170, 186), (206, 214, 222)), 'rain': ((96, 110, 132), (152, 166, 182)),
            'storm': ((44, 46, 66), (104, 104, 122)), 'snow': ((168, 184, 208), (222, 230, 240)),
            'fog': ((196, 202, 208), (224, 228, 230))}
DIM = {'cloudy': 0.9, 'rain': 0.78, 'storm': 0.58, 'snow': 0.98, 'fog': 0.95}
COLOUR = {'red': (218, 42, 42), 'blue': (42, 92, 214), 'yellow': (248, 204, 36), 'green': (48, 156, 72),
          'orange': (244, 132, 28), 'pink': (246, 120, 176), 'purple': (138, 66, 184), 'white': (246, 244, 238),
          'black': (38, 36, 42), 'brown': (142, 86, 44), 'grey': (142, 144, 152)}
GRASS = {None: (108, 178, 70), 'spring': (136, 206, 84), 'summer': (122, 172, 50), 'autumn': (176, 148, 62),
         'winter': (236, 242, 250)}
LEAF = {None: (52, 132, 60), 'spring': (240, 160, 196), 'summer': (38, 122, 46), 'autumn': (222, 112, 30),
        'winter': (206, 220, 232)}
SNOW = (240, 245, 252)
WINDOW = (255, 214, 96)
GLASS = (150, 196, 226)


def mix(a, b, t):
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def shade(colour, f):
    return tuple(c * f for c in colour)


class Pen:
    """Draws in a frame of its own: origin (x, y) in a 256 x 256 picture, y upwards, scale s."""

    def __init__(self, draw, unit, light, x=0, y=0, s=1.0, flip=False):
        self.d, self.k, self.light = draw, unit, light
        self.x, self.y, self.s, self.f = x, y, s, -1 if flip else 1

    def at(self, x, y, s=1.0, flip=False):
        return Pen(self.d, self.k, self.light, x, y, s, flip)

    def xy(self, x, y):
        return ((self.x + self.f * x * self.s) * self.k, (self.y - y * self.s) * self.k)

    def colour(self, c, glow):
        if not glow:
            c = [v * l for v, l in zip(c, self.light)]
        return tuple(int(min(255, max(0, v))) for v in c)

    def poly(self, c, *points, glow=False):
        self.d.polygon([self.xy(*p) for p in points], fill=self.colour(c, glow))

    def box(self, c, x0, y0, x1, y1, glow=False):
        (a, b), (e, f) = self.xy(x0, y0), self.xy(x1, y1)
        self.d.rectangle([min(a, e), min(b, f), max(a, e), max(b, f)], fill=self.colour(c, glow))

    def oval(self, c, x, y, rx, ry=None, glow=False):
        a, b = self.xy(x, y)
        rx, ry = rx * self.s * self.k, (rx if ry is None else ry) * self.s * self.k
        self.d.ellipse([a - rx, b - ry, a + rx, b + ry], fill=self.colour(c, glow))

    def dot(self, c, x, y, rx, ry=None, glow=False):
        """An oval in the picture's own direction: y downwards."""
        self.oval(c, x, -y, rx, ry, glow)

    def line(self, c, width, *points, glow=False):
        w = max(1, int(round(width * self.s * self.k)))
        self.d.line([self.xy(*p) for p in points], fill=self.colour(c, glow), width=w, joint='curve')


class Look:
    """What the drawing functions need to know about the scene."""

    def __init__(self, scene, rng):
        self.scene, self.rng = scene, rng
        self.time, self.weather = scene['time'] or 'day', scene['weather'] or 'clear'
        self.season = 'winter' if self.weather == 'snow' else scene['season']
        self.white = self.season == 'winter'
        self.night, self.mood = self.time == 'night', scene['mood']
        self.dark = self.night or self.weather == 'storm'
        self.lit = self.dark or self.mood == 'warm' or self.time == 'sunset'
        self.grass, self.leaf = GRASS[self.season], LEAF[self.season]
        self.window = WINDOW if self.lit else GLASS

    def u(self, a, b):
        return a + (b - a) * self.rng.random()

    def water(self):
        return mix((52, 122, 200), SKY[self.time][1], 0.22) if not self.night else (60, 110, 190)


# ---------------------------------------------------------------- small parts
def pine(p, look, colour=None):
    c = colour or (34, 104, 62)
    p.box((92, 62, 38), -5, 0, 5, 16)
    for i, (y, w, h) in enumerate(((10, 30, 38), (32, 24, 36), (54, 17, 34))):
        p.poly(shade(c, 0.9 + 0.1 * i), (-w, y), (w, y), (0, y + h))
        if look.white:
            p.poly(SNOW, (-w * 0.55, y + h * 0.45), (w * 0.55, y + h * 0.45), (0, y + h))


def round_tree(p, look, colour=None):
    c = colour or look.leaf
    p.box((104, 68, 40), -5, 0, 5, 34)
    p.oval(c, 0, 52, 26, 26)
    p.oval(shade(c, 1.12), -8, 60, 14, 13)


def any_tree(p, look):
    if look.season in ('autumn', 'spring'):
        round_tree(p, look)
    else:
        pine(p, look)


def cloud(p, c, s=1.0):
    for x, y, r in ((-24, 0, 14), (-6, 8, 19), (16, 4, 15), (30, -2, 10)):
        p.oval(c, x * s, y * s, r * s, r * 0.8 * s, glow=True)
    p.box(c, -26 * s, -10 * s, 32 * s, -1, glow=True)


def person(p, look, colour):
    p.poly(colour, (-7, 0), (7, 0), (4, 22), (-4, 22))
    p.oval((236, 190, 150), 0, 27, 5.5)


def house(p, look, w, h, wall, roof, snow=False):
    p.box(wall, -w, 0, w, h)
    p.poly(SNOW if look.white else roof, (-w - 5, h), (w + 5, h), (0, h + w * 0.85))
    for x in (-w * 0.5, w * 0.5):
        p.box(look.window, x - 6, h * 0.55, x + 6, h * 0.55 + 14, glow=look.lit)


def peak(p, look, w, h, rock):
    p.poly(rock, (-w, 0), (w, 0), (0, h))
    p.poly(shade(rock, 0.8), (0, h), (w, 0), (w * 0.15, 0), (-w * 0.06, h * 0.55))
    p.poly(SNOW, (0, h), (-w * 0.36, h * 0.64), (-w * 0.17, h * 0.7), (-w * 0.02, h * 0.58),
           (w * 0.17, h * 0.7), (w * 0.36, h * 0.64))


def peaks(pen, look, y, big=1.0):
    u = look.u
    rock = (112, 124, 158)
    for x, h in ((u(10, 50), u(80, 105)), (u(205, 245), u(80, 110)), (u(100, 160), u(105, 130))):
        peak(pen.at(x, y), look, h * 0.82 * big, h * big, rock)


# ---------------------------------------------------------------- sky
def sky(look, n):
    top, bottom = SKY[look.time]
    if look.weather in GREY_SKY:
        a, b = GREY_SKY[look.weather]
        t = 0.85 if look.time == 'day' or look.weather == 'storm' else 0.4
        dim = LIGHT['night'] if look.night else (1, 1, 1)
        a, b = [v * l for v, l in zip(a, dim)], [v * l for v, l in zip(b, dim)]
        top, bottom = mix(top, a, t), mix(bottom, b, t)
    ramp = np.clip(np.linspace(0, 1.5, n), 0, 1)[:, None]
    column = np.array(top)[None] * (1 - ramp) + np.array(bottom)[None] * ramp
    return np.repeat(column[:, None, :], n, axis=1).clip(0, 255).astype(np.uint8)


def heavens(pen, look, horizon):
    """Sun, moon, stars and clouds."""
    u = look.u
    x = u(30, 226)
    if look.scene['subject'] == 'mountains' or look.scene['setting'] == 'mountains':
        x = (72 if x < 128 else 186) + u(-8, 8)         # between the peaks
    low = horizon - {'mountains': 84, 'woods': 88, 'street': 84, 'park': 62, 'river': 28}.get(
        'mountains' if look.scene['subject'] == 'mountains' else look.scene['setting'], 0)
    hidden = look.weather in ('rain', 'storm', 'snow', 'fog')
    if look.night:
        if not hidden:
            for _ in range(26):
                pen.dot((255, 250, 220), u(4, 252), u(6, horizon - 20), u(0.8, 2.0), glow=True)
        if look.weather not in ('storm', 'rain'):
            y = u(30, 60)
            pen.dot((250, 244, 206), x, y, 17, glow=True)
            pen.dot(mix(SKY['night'][0], SKY['night'][1], 0.3), x + 8, y - 5, 14, glow=True)
    elif look.time == 'sunrise' and look.weather != 'storm':
        pen.dot((255, 226, 150), x, low - 6, 46, glow=True)
        pen.dot((255, 246, 190), x, low - 6, 29, glow=True)
    elif look.time == 'sunset' and look.weather != 'storm':
        pen.dot((255, 150, 40), x, low - 12, 36, glow=True)
        pen.dot((255, 86, 30), x, low - 12, 28, glow=True)
    elif not hidden:
        y = u(28, 56)
        if look.mood == 'happy':
            for a in np.arange(0, 6.28, 0.785):
                pen.line((255, 222, 60), 5, (x + 24 * np.cos(a), -y + 24 * np.sin(a)),
                         (x + 38 * np.cos(a), -y + 38 * np.sin(a)), glow=True)
        pen.dot((255, 226, 70), x, y, 19, glow=True)
    light = (1, 1, 1) if look.time == 'day' else LIGHT[look.time]
    if look.weather in ('cloudy', 'rain', 'storm', 'snow'):
        c = {'cloudy': (236, 240, 244), 'rain': (120, 130, 146), 'storm': (58, 58, 76), 'snow': (226, 232, 240)}[look.weather]
        for i in range(4):
            c2 = [v * l * (0.94 if i % 2 else 1) for v, l in zip(c, light)]
            cloud(pen.at(30 + 66 * i + u(-14, 14), u(24, 58)), c2, u(1.1, 1.5))
    elif look.weather == 'clear' and not look.night:
        for _ in range(int(look.rng.integers(0, 3))):
            c = [v * l for v, l in zip((255, 255, 255), mix(light, (1, 1, 1), 0.5))]
            cloud(pen.at(u(20, 236), u(26, 76)), c, u(0.7, 1.0))


# ---------------------------------------------------------------- settings
def ground(pen, c, y):
    pen.box(c, 0, -y, 256, -256)


def waves(pen, look, y0, y1, n=9):
    c = mix(look.water(), (255, 255, 255), 0.4)
    for _ in range(n):
        x, y, w = look.u(0, 240), look.u(y0 + 5, y1), look.u(10, 22)
        pen.line(c, 2.4, (x, -y), (x + w, -y))


def set_plain(pen, look, h):
    ground(pen, look.grass, h)
    pen.dot(shade(look.grass, 0.94), look.u(20, 236), h + 90, 150, 60)


def set_woods(pen, look, h):
    ground(pen, mix(look.grass, (60, 110, 50), 0.0 if look.white else 0.35), h)
    far = (44, 96, 78)
    for i in range(9):
        p = pen.at(i * 31 + look.u(-8, 8), h + 8, look.u(0.85, 1.15))
        (round_tree if look.season in ('autumn', 'spring') else pine)(p, look, None if look.season in ('autumn', 'spring') else far)
    for x in (look.u(2, 24), look.u(232, 254)):
        any_tree(pen.at(x, h + look.u(34, 60), look.u(1.5, 1.9)), look)


def set_beach(pen, look, h):
    pen.box(look.water(), 0, -h, 256, -h - 40)
    waves(pen, look, h, h + 28, 6)
    sand = mix((244, 214, 140), SNOW, 0.75 if look.white else 0)
    pen.poly((250, 250, 250), (0, -h - 30), (90, -h - 36), (180, -h - 28), (256, -h - 34), (256, -256), (0, -256))
    pen.poly(sand, (0, -h - 36), (90, -h - 42), (180, -h - 34), (256, -h - 40), (256, -256), (0, -256))
    if look.rng.random() < 0.75:        # a palm tree
        x = look.u(14, 40) if look.rng.random() < 0.5 else look.u(216, 242)
        y = h + 62
        lean = 14 if x < 128 else -14
        pen.line((150, 104, 60), 7, (x, -y), (x + lean * 0.3, -y + 50), (x + lean, -y + 92))
        top = pen.at(x + lean, y - 92)
        for dx, dy in ((-34, -14), (-30, 10), (-8, 24), (14, 22), (32, 8), (34, -14)):
            top.poly((46, 146, 70), (0, 4), (dx * 0.6, dy + 9), (dx, dy - 4), (dx * 0.5, dy - 1))


def set_desert(pen, look, h):
    ground(pen, (236, 178, 92), h)
    pen.dot((226, 160, 78), look.u(20, 90), h + 26, 120, 46)
    pen.dot((244, 192, 108), look.u(180, 250), h + 34, 130, 48)
    ground(pen, (240, 186, 100), h + 40)
    x, s = (look.u(18, 44) if look.rng.random() < 0.5 else look.u(212, 238)), look.u(0.9, 1.2)
    p, c = pen.at(x, h + 50, s), (66, 140, 70)
    p.line(c, 13, (0, 0), (0, 72))
    p.oval(c, 0, 72, 6.5)
    p.line(c, 9, (0, 30), (-18, 32), (-18, 54))
    p.line(c, 9, (0, 22), (17, 24), (17, 46))


def set_field(pen, look, h):
    gold = {None: (226, 190, 74), 'summer': (236, 196, 60), 'autumn': (190, 140, 64)}.get(look.season, look.grass)
    c2 = shade(gold, 0.88) if not look.white else (218, 228, 242)
    ground(pen, gold, h)
    vx = look.u(90, 166)
    for i in range(-7, 8, 2):
        pen.poly(c2, (vx + i * 9, -h), (vx + (i + 1) * 9, -h), (vx + (i + 1) * 52, -256), (vx + i * 52, -256))
    pen.box((92, 150, 66) if not look.white else (196, 210, 226), 0, -h + 5, 256, -h - 3)
    if look.season == 'spring':
        for _ in range(26):
            pen.dot([(250, 90, 110), (255, 240, 120), (250, 250, 250)][int(look.rng.integers(3))],
                     look.u(0, 256), look.u(h + 14, 252), 3)


def set_sea(pen, look, h):
    ground(pen, look.water(), h)
    pen.box(shade(look.water(), 0.84), 0, -h, 256, -h - 16)
    waves(pen, look, h, 250, 16)
    if look.scene['subject'] not in ('boat', 'balloon', 'bridge', 'mountains', 'city', 'bird'):
        rock = mix((128, 118, 108), SNOW, 0.8 if look.white else 0)
        pen.poly(rock, (look.cx - 92, -256), (look.cx - 76, -look.base + 4), (look.cx - 50, -look.base + 12),
                 (look.cx + 54, -look.base + 12), (look.cx + 80, -look.base + 2), (look.cx + 96, -256))


def set_street(pen, look, h):
    walls = [(232, 146, 112), (240, 214, 140), (146, 184, 200), (214, 160, 176), (178, 200, 150)]
    k = int(look.rng.integers(5))
    for i in range(5):
        house(pen.at(22 + i * 53 + look.u(-3, 3), h + 24), look, 24, look.u(56, 84), walls[(i + k) % 5], (150, 70, 56))
    pen.box((196, 190, 184) if not look.white else SNOW, 0, -h - 22, 256, -h - 40)
    ground(pen, (104, 104, 112) if not look.white else (206, 214, 226), h + 40)
    for x in range(-10, 256, 56):
        pen.box((240, 236, 220), x, -238, x + 30, -243)


def set_mountains(pen, look, h):
    peaks(pen, look, h + 6)
    ground(pen, look.grass, h)
    for x in (look.u(6, 40), look.u(214, 250)):
        pine(pen.at(x, h + look.u(14, 26), look.u(0.5, 0.75)), look)


def set_park(pen, look, h):
    for i in range(6):
        round_tree(pen.at(i * 50 + look.u(-12, 12), h + 12, look.u(0.75, 1.0)), look,
                   mix(look.leaf, (96, 180, 80), 0.5) if look.season in (None, 'summer') else None)
    lawn = mix(look.grass, (130, 210, 90), 0.0 if look.white else 0.5)
    ground(pen, lawn, h + 6)
    path = (232, 214, 170) if not look.white else (214, 222, 234)
    pen.poly(path, (look.cx - 10, -h - 6), (look.cx + 14, -h - 6), (look.cx + 74, -256), (look.cx - 66, -256))
    x = 26 if look.cx > 128 else 214
    b = pen.at(x, h + 44)          # a bench
    b.box((150, 92, 48), -24, 12, 24, 17)
    b.box((150, 92, 48), -24, 22, 24, 30)
    for dx in (-18, 18):
        b.box((70, 60, 60), dx - 2, 0, dx + 2, 14)


def set_river(pen, look, h):
    ground(pen, look.grass, h)
    for i in range(4):
        any_tree(pen.at(i * 74 + look.u(0, 30), h + 8, look.u(0.45, 0.6)), look)
    side = 1 if look.cx < 128 else -1               # it winds down on the free side and passes in front
    def q(x, y):
        return (look.cx + side * x, -y)
    bank = mix(look.grass, (150, 130, 80), 0.0 if look.white else 0.45)
    for c, o in ((bank, 5), (look.water(), 0)):
        pen.poly(c, q(60, h), q(72 + o, h), q(84 + o, h + 20), q(150 + o, h + 44 - o), q(170, 256), q(-190, 256),
                 q(-190, 236 - o), q(0, 230 - o), q(76 - o, 218 - o), q(96 - o, h + 52), q(64 - o, h + 26))
    waves(pen, look, 234, 252, 7)
    pen.line(mix(look.water(), (255, 255, 255), 0.4), 2.4, q(104, h + 62), q(122, h + 62))


def set_hill(pen, look, h):
    far = mix(look.grass, (150, 190, 190), 0.5)
    ground(pen, far, h)
    pen.dot(mix(look.grass, (110, 170, 130), 0.0 if look.white else 0.5), look.u(0, 50), h + 44, 90, 50)
    pen.dot(mix(look.grass, (110, 170, 130), 0.0 if look.white else 0.5), look.u(206, 256), h + 44, 90, 50)
    pen.dot(look.grass, look.cx, look.base + 88, 150, 100)
    pen.dot(shade(look.grass, 1.07), look.cx - 16, look.base + 94, 118, 94)


SETTING = {None: set_plain, 'woods': set_woods, 'beach': set_beach, 'desert': set_desert, 'field': set_field,
           'sea': set_sea, 'street': set_street, 'mountains': set_mountains, 'park': set_park, 'river': set_river,
           'hill': set_hill}


# ---------------------------------------------------------------- subjects (about 130 high, base at 0)
def cabin(p, look, c):
    wood = (150, 92, 50)
    p.box((110, 100, 96), 26, 70, 42, 118)
    if look.white:
        p.box(SNOW, 24, 114, 44, 121)
    p.box(wood, -56, 0, 56, 62)
    for y in range(8, 62, 11):
        p.line(shade(wood, 0.76), 2.5, (-56, y), (56, y))
    p.poly((104, 54, 36), (-70, 58), (70, 58), (0, 118))
    if look.white:
        p.poly(SNOW, (-72, 60), (-66, 72), (0, 126), (66, 72), (72, 60), (58, 64), (0, 106), (-58, 64))
    p.box((92, 52, 30), -12, 0, 12, 38)
    for x in (-36, 36):
        p.box((84, 50, 30), x - 14, 20, x + 14, 46)
        p.box(look.window, x - 11, 23, x + 11, 43, glow=look.lit)
        p.line((84, 50, 30), 2.5, (x, 22), (x, 44))
        p.line((84, 50, 30), 2.5, (x - 11, 33), (x + 11, 33))
    if look.lit or look.white:
        for i, (x, y) in enumerate(((36, 130), (44, 144), (40, 160))):
            p.oval((226, 226, 230), x, y, 7 + 2.5 * i)


def lighthouse(p, look, c):
    c = c or COLOUR['red']
    if look.dark:
        p.poly((255, 240, 160), (0, 122), (150, 160), (150, 96), glow=True)
        p.poly((255, 240, 160), (0, 122), (-150, 160), (-150, 96), glow=True)
    for i in range(5):
        a, b = 26 - i * 2.6, 26 - (i + 1) * 2.6
        p.poly(c if i % 2 == 0 else (248, 246, 240), (-a, i * 22), (a, i * 22), (b, i * 22 + 22), (-b, i * 22 + 22))
    p.box((60, 60, 70), -20, 108, 20, 113)
    p.box((255, 236, 130), -11, 113, 11, 131, glow=True)
    p.poly(c, (-16, 131), (16, 131), (0, 148))
    p.box((70, 50, 40), -6, 0, 6, 15)


def boat(p, look, c):
    p.line((96, 66, 42), 5, (0, 20), (0, 138))
    sail = c or COLOUR['white']
    p.poly(sail, (5, 34), (5, 136), (58, 38))
    p.poly(shade(sail, 0.86), (-5, 34), (-5, 122), (-42, 38))
    p.poly((132, 72, 40), (-62, 26), (66, 26), (44, -4), (-42, -4))
    p.box((240, 236, 226), -62, 22, 65, 28)


def castle(p, look, c):
    stone = (172, 166, 170)
    def tower(x, w, h):
        p.box(stone, x - w, 0, x + w, h)
        p.box(shade(stone, 0.82), x + w * 0.4, 0, x + w, h)
        p.poly((184, 54, 60) if not look.white else SNOW, (x - w - 4, h), (x + w + 4, h), (x, h + w * 2.1))
        p.box(look.window if look.lit else (70, 66, 80), x - 4, h - 26, x + 4, h - 12, glow=look.lit)
    tower(0, 20, 100)
    p.box(stone, -56, 0, 56, 60)
    for x in range(-52, 56, 17):
        p.box(stone, x, 60, x + 9, 68)
    tower(-58, 15, 82)
    tower(58, 15, 82)
    p.box((74, 48, 36), -14, 0, 14, 26)
    p.oval((74, 48, 36), 0, 26, 14)
    for x in (-32, 32):
        p.box(look.window if look.lit else (70, 66, 80), x - 5, 30, x + 5, 46, glow=look.lit)
    p.line((60, 50, 50), 2, (0, 142), (0, 160))
    p.poly((236, 190, 40), (0, 160), (20, 153), (0, 147))


def bridge(p, look, c):
    stone = (168, 146, 124)
    water = look.water()
    p.poly(water, (-150, 26), (150, 26), (150, -30), (-150, -30))
    p.poly(stone, (-128, 44), (-60, 72), (0, 80), (60, 72), (128, 44), (128, -4), (-128, -4))
    for x, r, y in ((-74, 25, 0), (0, 34, 0), (74, 25, 0)):
        p.oval(water, x, y, r + 3, r * 1.5)
    p.box(water, -150, -42, 150, -3)
    for x in range(-140, 140, 38):
        p.line(mix(water, (255, 255, 255), 0.4), 2.5, (x, -14), (x + 16, -14))
    p.line(shade(stone, 0.72), 7, (-130, 48), (-60, 76), (0, 84), (60, 76), (130, 48))
    if look.white:
        p.line(SNOW, 5, (-130, 53), (-60, 81), (0, 89), (60, 81), (130, 53))


def train(p, look, c):
    c = c or COLOUR['red']
    p.box((120, 104, 92), -140, -3, 140, 2)
    for x in range(-138, 140, 16):
        p.box((84, 62, 48), x, -9, x + 8, -3)
    for x in (-104, -40):                                   # carriages
        p.box(shade(c, 0.86), x - 29, 12, x + 29, 60)
        p.box((70, 66, 74) if not look.white else SNOW, x - 31, 58, x + 31, 66)
        for dx in (-16, 0, 16):
            p.box(look.window, x + dx - 6, 32, x + dx + 6, 50, glow=look.lit)
        for dx in (-16, 16):
            p.oval((40, 40, 46), x + dx, 8, 9)
    p.box(c, 0, 12, 36, 76)                                 # engine
    p.box((70, 66, 74) if not look.white else SNOW, -4, 74, 40, 82)
    p.box(look.window, 8, 46, 28, 66, glow=look.lit)
    p.box(c, 34, 16, 92, 54)
    p.oval(shade(c, 0.8), 92, 35, 7, 19)
    p.poly((50, 48, 54), (72, 54), (86, 54), (90, 84), (68, 84))
    p.box((236, 190, 60), 46, 54, 58, 64)
    p.poly((60, 58, 64), (86, 0), (112, 0), (92, 18))
    p.oval((255, 240, 150), 98, 44, 5, glow=look.lit)
    for x, r in ((14, 14), (46, 12), (74, 12)):
        p.oval((40, 40, 46), x, r - 2, r)
        p.oval((200, 60, 50), x, r - 2, r * 0.4)
    for x, y, r in ((74, 96, 11), (56, 110, 15), (30, 122, 19)):
        p.oval((232, 232, 236), x, y, r)


def city(p, look, c):
    u, rng = look.u, look.rng
    tones = [(96, 112, 146), (120, 132, 158), (80, 94, 128), (140, 128, 150)]
    for x, w, h in ((-108, 20, 74), (-66, 18, 116), (-30, 18, 90), (8, 20, 150), (50, 18, 108), (88, 18, 130), (122, 16, 78)):
        h *= u(0.85, 1.12)
        tone = tones[int(rng.integers(4))]
        p.box(tone, x - w, 0, x + w, h)
        p.box(shade(tone, 0.8), x + w * 0.5, 0, x + w, h)
        if look.white:
            p.box(SNOW, x - w, h - 5, x + w, h + 2)
        for y in np.arange(10, h - 8, 15):
            for dx in (-12, -2, 8):
                on = look.lit and rng.random() < 0.7
                p.box(WINDOW if on else (196, 216, 232), x + dx - 2, y, x + dx + 4, y + 8, glow=on)
    p.line((90, 90, 100), 3, (8, 140), (8, 184))


def tent(p, look, c):
    c = c or COLOUR['orange']
    p.poly(shade(c, 0.72), (10, 96), (76, 60), (96, 0), (40, 0))
    p.poly(c, (-66, 0), (54, 0), (-4, 98))
    p.poly(WINDOW if look.lit else (60, 44, 44), (-26, 0), (16, 0), (-4, 64), glow=look.lit)
    p.poly(shade(c, 1.15), (-26, 0), (-4, 64), (-38, 0))
    p.line((90, 70, 50), 3, (-4, 92), (-4, 106))
    if look.white:
        p.line(SNOW, 6, (-34, 50), (-4, 100), (70, 64))


def tree(p, look, c):
    bark = (110, 70, 40)
    p.poly(bark, (-16, 0), (16, 0), (9, 64), (-9, 64))
    p.line(bark, 8, (0, 50), (-30, 84))
    p.line(bark, 8, (0, 50), (30, 88))
    if look.white:                  # bare branches, tipped with snow
        for a, b in (((0, 60), (0, 140)), ((-30, 84), (-52, 118)), ((-22, 76), (-26, 122)), ((30, 88), (52, 116)),
                     ((20, 76), (24, 130)), ((0, 90), (-14, 134)), ((0, 96), (14, 126)), ((-34, 90), (-62, 94)), ((34, 92), (62, 92))):
            p.line(bark, 6, a, b)
            p.line(SNOW, 4, mix(a, b, 0.45), b)
        return
    c = look.leaf
    for x, y, r in ((-36, 92, 32), (36, 94, 32), (0, 120, 38), (0, 86, 34)):
        p.oval(c, x, y, r)
    for x, y, r in ((-34, 102, 18), (8, 132, 20), (40, 104, 14)):
        p.oval(shade(c, 1.15), x, y, r)


def cat(p, look, c):
    c = c or COLOUR['orange']
    d = shade(c, 0.78) if sum(c) > 200 else shade(c, 1.9)
    p.line(c, 12, (34, 12), (62, 14), (70, 40), (60, 62))       # tail
    p.oval(c, 60, 62, 6)
    p.oval(c, 6, 32, 36, 34)
    p.poly(c, (-24, 0), (34, 0), (26, 60), (-18, 72))
    p.oval(c, -6, 84, 33, 29)
    p.poly(c, (-38, 90), (-36, 128), (-10, 108))
    p.poly(c, (26, 90), (24, 128), (-2, 108))
    p.poly((246, 160, 170), (-33, 100), (-32, 118), (-18, 108))
    p.poly((246, 160, 170), (21, 100), (20, 118), (6, 108))
    for y in (30, 42, 54):
        p.line(d, 4, (22, y), (38, y + 3))
    eye = (126, 206, 80) if sum(c) < 600 else (60, 140, 200)
    for x in (-19, 7):
        p.oval(eye, x, 87, 7, 8, glow=True)
        p.oval((20, 20, 20), x, 87, 2.6, 7)
    p.poly((240, 120, 130), (-10, 77), (-2, 77), (-6, 72))
    for s in (-1, 1):
        p.line((236, 236, 236) if sum(c) < 400 else (70, 60, 60), 1.6, (-6 + 10 * s, 73), (-6 + 40 * s, 77))
        p.line((236, 236, 236) if sum(c) < 400 else (70, 60, 60), 1.6, (-6 + 10 * s, 71), (-6 + 40 * s, 67))
    for x in (-12, 10):
        p.oval(d, x, 5, 11, 7)


def dog(p, look, c):
    c = c or COLOUR['brown']
    d = shade(c, 0.7) if sum(c) > 200 else shade(c, 1.9)
    p.line(c, 10, (-50, 62), (-68, 78), (-70, 100))             # tail
    for x in (-46, -30, 22, 38):
        p.box(c if x in (-46, 38) else d, x - 7, 0, x + 7, 46)
    p.oval(c, -4, 54, 54, 25)
    p.poly(c, (22, 50), (54, 58), (60, 96), (30, 92))
    p.oval(c, 48, 98, 26, 23)
    p.poly(c, (56, 108), (88, 98), (88, 84), (52, 80))          # muzzle
    p.oval((24, 22, 24), 87, 96, 6, 5)
    p.oval(d, 32, 92, 11, 24)                                   # hanging ear
    p.oval((20, 18, 20), 57, 104, 4)
    p.oval((255, 255, 255), 58, 105.5, 1.4)
    p.poly((230, 90, 100), (72, 82), (82, 83), (78, 68))
    p.line((206, 40, 46), 7, (28, 74), (58, 70))


def bird(p, look, c):
    c = c or COLOUR['red']
    p.line((96, 66, 40), 8, (-80, 12), (84, 18))                # a branch
    p.line((96, 66, 40), 5, (40, 16), (66, 34))
    if not look.white:
        p.oval((70, 150, 66), 70, 38, 12, 7)
        p.oval((70, 150, 66), -72, 22, 12, 7)
    p.poly(shade(c, 0.7), (-24, 40), (-84, 34), (-78, 52), (-26, 66))  # tail
    p.oval(c, 0, 56, 42, 36)
    p.oval(mix(c, (255, 244, 220), 0.7), 12, 46, 26, 24)
    p.oval(c, 30, 92, 27)
    p.poly((250, 170, 30), (52, 100), (82, 90), (52, 84))
    p.oval((255, 255, 255), 38, 98, 8)
    p.oval((20, 20, 20), 40, 98, 5)
    p.poly(shade(c, 0.62), (14, 72), (-48, 44), (-10, 34), (16, 44))
    for x in (-4, 12):
        p.line((230, 150, 40), 4, (x, 24), (x, 14))


def fire(p, look, c):
    for x, y in ((-52, 4), (0, -3), (52, 4), (-28, -2), (28, -2)):
        p.oval((128, 124, 128), x, y, 15, 10)
    p.line((98, 58, 32), 14, (-46, 6), (44, 24))
    p.line((120, 74, 42), 14, (46, 6), (-44, 24))
    k = look.u(-8, 8)
    def flame(c, s):
        p.poly(c, (-44 * s, 18), (-50 * s, 50 * s + 8), (-30 * s, 84 * s), (-24 * s, 64 * s), (k, 132 * s + 4), (20 * s, 76 * s),
               (30 * s, 98 * s), (48 * s, 52 * s + 8), (42 * s, 18), (0, 8), glow=True)
    flame((236, 72, 22), 1.0)
    flame((252, 150, 30), 0.74)
    flame((255, 232, 110), 0.44)


def windmill(p, look, c):
    p.poly((240, 232, 214), (-32, 0), (32, 0), (19, 88), (-19, 88))
    p.poly((216, 206, 188), (10, 0), (32, 0), (19, 88), (8, 88))
    p.poly((150, 66, 48) if not look.white else SNOW, (-25, 86), (25, 86), (0, 114))
    p.box((96, 62, 40), -9, 0, 9, 28)
    p.box(look.window, -7, 46, 7, 62, glow=look.lit)
    turn = look.u(0.2, 1.3)
    for i in range(4):
        a = turn + i * np.pi / 2
        ca, sa = np.cos(a), np.sin(a)
        def q(r, o):
            return (r * ca - o * sa, 92 + r * sa + o * ca)
        p.poly((236, 226, 206) if not look.white else (226, 90, 80), q(14, 0), q(70, 0), q(70, 17), q(14, 17))
        p.line((96, 62, 40), 4, q(0, 0), q(72, 0))
        for r in (30, 46, 62):
            p.line((96, 62, 40), 2, q(r, 0), q(r, 17))
    p.oval((80, 54, 38), 0, 92, 6)


def car(p, look, c):
    c = c or COLOUR['red']
    p.poly(c, (-44, 42), (-26, 74), (28, 74), (52, 42))
    p.poly(GLASS, (-36, 44), (-22, 67), (-2, 67), (-2, 44))
    p.poly(GLASS, (5, 44), (5, 67), (24, 67), (42, 44))
    p.poly(c, (-78, 14), (-78, 40), (-46, 48), (54, 48), (80, 38), (82, 14))
    p.box(shade(c, 0.72), -78, 12, 82, 21)
    if look.dark:
        p.poly((255, 244, 170), (80, 34), (140, 46), (140, 4), (80, 24), glow=True)
    p.oval((255, 244, 170), 78, 31, 6, 6, glow=True)
    p.box((230, 50, 40), -79, 27, -73, 36)
    p.line(shade(c, 0.6), 2.5, (1, 20), (1, 44))
    for x in (-44, 46):
        p.oval((34, 34, 40), x, 13, 20)
        p.oval((200, 202, 208), x, 13, 9)


def church(p, look, c):
    wall = (240, 236, 226)
    roof = (92, 98, 128) if not look.white else SNOW
    p.box(wall, -10, 0, 66, 54)
    p.poly(roof, (-16, 52), (72, 52), (58, 88), (-10, 88))
    p.box(wall, -50, 0, -8, 88)
    p.box(shade(wall, 0.86), -16, 0, -8, 88)
    p.poly((92, 98, 128), (-56, 86), (-2, 86), (-29, 142))
    if look.white:
        p.poly(SNOW, (-40, 118), (-18, 118), (-29, 142))
    p.line((80, 62, 40), 4, (-29, 138), (-29, 166))
    p.line((80, 62, 40), 4, (-38, 156), (-20, 156))
    p.oval((60, 56, 66), -29, 70, 9)
    p.oval((232, 190, 60), -29, 68, 5)
    p.box((112, 70, 42), -39, 0, -19, 28)
    p.oval((112, 70, 42), -29, 28, 10)
    for x in (8, 28, 48):
        p.box(look.window if look.lit else (96, 130, 190), x - 5, 16, x + 5, 34, glow=look.lit)
        p.oval(look.window if look.lit else (96, 130, 190), x, 34, 5, glow=look.lit)


def flower(p, look, c):
    c = c or COLOUR['red']
    p.line((44, 134, 56), 8, (0, 0), (4, 40), (0, 84))
    p.poly((56, 156, 66), (2, 26), (38, 52), (48, 40), (24, 22))
    p.poly((56, 156, 66), (2, 18), (-34, 46), (-46, 34), (-22, 14))
    for a in np.arange(0, 6.28, 1.0472):
        p.oval(c, 30 * np.cos(a + 0.5), 94 + 30 * np.sin(a + 0.5), 20)
    heart = (252, 206, 50) if c != COLOUR['yellow'] else (140, 84, 36)
    p.oval(heart, 0, 94, 19)


def horse(p, look, c):
    c = c or COLOUR['brown']
    dark = sum(c) < 200
    m = (104, 84, 70) if dark else shade(c, 0.5) if sum(c) < 500 else (200, 190, 176)
    p.line(m, 11, (-50, 78), (-66, 66), (-68, 34))
    for x, tone in ((-44, 1), (-28, 0.78), (22, 0.78), (38, 1)):
        p.poly(shade(c, tone), (x - 7, 60), (x + 8, 60), (x + 5, 6), (x - 4, 6))
        p.box((40, 34, 34), x - 5, 0, x + 6, 8)
    p.oval(c, -4, 70, 52, 25)
    p.poly(c, (16, 74), (48, 66), (74, 122), (50, 132))
    p.poly(c, (48, 132), (70, 136), (102, 104), (94, 94), (66, 106))
    p.poly(c, (54, 130), (56, 148), (66, 132))
    p.poly(m, (18, 84), (8, 98), (34, 128), (52, 144), (56, 130), (36, 100))
    p.oval((20, 18, 18), 70, 122, 3.5)
    p.oval((40, 34, 34), 97, 101, 3)


def balloon(p, look, c):
    c = c or COLOUR['red']
    other = (250, 240, 214) if c != COLOUR['yellow'] else (232, 90, 50)
    p.line((110, 84, 60), 2, (-30, 66), (-12, 24))
    p.line((110, 84, 60), 2, (30, 66), (12, 24))
    p.poly(c, (-51, 88), (51, 88), (16, 36), (-16, 36))
    p.oval(c, 0, 110, 58, 56)
    p.oval(other, 0, 110, 38, 56)
    p.poly(other, (-34, 86), (34, 86), (10, 36), (-10, 36))
    p.oval(c, 0, 110, 15, 56)
    p.poly(c, (-14, 88), (14, 88), (4, 36), (-4, 36))
    p.box((150, 98, 52), -14, 0, 14, 24)
    p.box((112, 70, 38), -16, 20, 16, 26)
    if look.dark:
        p.poly((255, 200, 80), (-5, 28), (5, 28), (0, 44), glow=True)


def market(p, look, c):
    u, rng = look.u, look.rng
    cloths = [(218, 52, 48), (52, 120, 200), (240, 180, 40), (60, 160, 90)]
    goods = [(236, 70, 50), (250, 170, 40), (120, 186, 60), (150, 80, 160), (250, 220, 80)]
    k = int(rng.integers(4))
    for j, x in enumerate((-82, 0, 82)):
        cloth, y = cloths[(k + j) % 4], 0
        for dx in (-34, 34):
            p.box((110, 80, 54), x + dx - 3, y, x + dx + 3, 84)
        p.box((196, 150, 96), x - 36, 10, x + 36, 36)
        for i in range(5):
            p.oval(goods[int(rng.integers(5))], x - 28 + 14 * i, 40, 8)
        for i in range(6):
            a, b = x - 40 + i * 80 / 6, x - 40 + (i + 1) * 80 / 6
            tone = cloth if i % 2 == 0 else (250, 246, 238)
            p.poly(tone, (a, 78), (b, 78), (x + (b - x) * 0.75, 108), (x + (a - x) * 0.75, 108))
            p.oval(tone, (a + b) / 2, 78, 6.6, 7)
        if look.lit:
            p.oval((255, 226, 120), x, 64, 7, glow=True)
    people = 5 if look.mood == 'lively' else 3
    for i in range(people):
        tone = [(60, 90, 170), (190, 60, 90), (70, 140, 90), (140, 90, 160), (220, 130, 50)][int(rng.integers(5))]
        x = -100 + 200 * (i + 0.5) / people + u(-12, 12)
        person(Pen(p.d, p.k, p.light, *[v / p.k for v in p.xy(x, -20)], p.s * 1.7), look, tone)


def fountain(p, look, c):
    stone, water = (190, 186, 182), (110, 184, 240)
    for s in (-1, 1):
        for w, h in ((52, 132), (34, 146), (16, 152)):
            pts = [(s * w * t, 104 + (h - 104) * 4 * t * (1 - t) - 66 * t * t * (w > 40)) for t in np.linspace(0, 1, 9)]
            p.line((206, 234, 252), 6, *pts)
    p.line((206, 234, 252), 8, (0, 100), (0, 150))
    p.poly(stone, (-40, 92), (40, 92), (16, 76), (-16, 76))
    p.oval(water, 0, 92, 38, 7)
    p.box(shade(stone, 0.86), -9, 20, 9, 80)
    p.poly(stone, (-78, 28), (78, 28), (66, -6), (-66, -6))
    p.oval(shade(stone, 1.1), 0, 28, 79, 14)
    p.oval(water, 0, 28, 70, 10)
    for x in (-48, -30, 30, 48):
        p.line((206, 234, 252), 5, (x * 0.8, 90), (x, 30))


SUBJECT = {'cabin': cabin, 'lighthouse': lighthouse, 'boat': boat, 'castle': castle, 'bridge': bridge, 'train': train,
           'city': city, 'tent': tent, 'tree': tree, 'cat': cat, 'dog': dog, 'bird': bird, 'fire': fire,
           'windmill': windmill, 'car': car, 'church': church, 'flower': flower, 'horse': horse, 'balloon': balloon,
           'market': market, 'fountain': fountain}


# the three that are landscapes themselves
def lake(pen, look, h):
    u = look.u
    y, rx, ry = u(206, 216), u(100, 122), u(34, 42)
    water = mix((58, 140, 214), SKY[look.time][1], 0.3) if not look.night else (70, 120, 200)
    x = u(112, 144)
    pen.dot(mix(shade(look.grass, 0.72), (150, 130, 90), 0.3), x, y, rx + 6, ry + 5)
    pen.dot(water, x, y, rx, ry)
    light = mix(water, (255, 255, 255), 0.45)
    pen.dot(mix(water, light, 0.4), x, y - ry * 0.35, rx * 0.7, ry * 0.42)
    for _ in range(7):
        a, b = u(x - rx * 0.7, x + rx * 0.5), u(y - ry * 0.5, y + ry * 0.7)
        pen.line(light, 3, (a, -b), (a + u(14, 30), -b))
    for s in (-1, 1):
        for i in range(2):
            pen.line((70, 130, 60), 3.5, (x + s * (rx - 6 * i), -y - 8), (x + s * (rx - 6 * i + 3), -y + 18 + 8 * i))


def mountains(pen, look, h):
    u = look.u
    rock = (104, 116, 152)
    b = h + 10
    for x, a in ((u(20, 50), u(112, 126)), (u(206, 236), u(112, 128)), (u(105, 150), u(146, 160))):
        peak(pen.at(x, b), look, a * 0.72, a, rock)


def waterfall(pen, look, h):
    u = look.u
    cx, w, base = look.cx, u(22, 30), u(214, 222)
    top = base - u(130, 148)
    rock = (116, 108, 104)
    pen.poly(rock, (cx - 110, -base - 4), (cx - 92, -top - 24), (cx - 60, -top), (cx + 62, -top), (cx + 94, -top - 30), (cx + 112, -base - 4))
    pen.poly(shade(rock, 0.82), (cx + w, -top), (cx + 62, -top), (cx + 94, -top - 30), (cx + 112, -base - 4), (cx + w, -base))
    pen.poly(SNOW if look.white else (84, 152, 66), (cx - 92, -top - 24), (cx - 60, -top + 8), (cx + 62, -top + 8), (cx + 94, -top - 30), (cx + 58, -top - 8), (cx - 58, -top - 8))
    water = (96, 180, 240)
    pen.dot(water, cx, base + 6, 100, 26)
    pen.poly((206, 236, 252), (cx - w, -top + 6), (cx + w, -top + 6), (cx + w + 8, -base), (cx - w - 8, -base))
    for i in (-2, -1, 0, 1, 2):
        x = cx + i * w * 0.4 + u(-2, 2)
        pen.line((130, 194, 240), 3, (x, -top - u(0, 20)), (x * 1.0 + i * 2, -base + u(4, 24)))
    for _ in range(7):
        pen.dot((244, 250, 255), cx + u(-w - 14, w + 14), base + u(-6, 6), u(6, 11))


LANDSCAPE = {'lake': lake, 'mountains': mountains, 'waterfall': waterfall}
WIDE = {'bridge': 0.92, 'train': 0.86, 'city': 0.86, 'market': 0.84, 'castle': 0.9}


def place_subject(pen, look):
    """Draw the subject, once or several times."""
    scene, u = look.scene, look.u
    name = scene['subject']
    count = scene['count'] or 1
    draw = SUBJECT[name]
    if count == 1:
        spots = [(look.cx, look.base, 1.0)]
    elif count == 2:
        spots = [(64 + u(-6, 6), look.base - 6, 0.72), (184 + u(-6, 6), look.base + 6, 0.76)]
    else:
        spots = [(46 + u(-4, 4), look.base + 2, 0.54), (128 + u(-5, 5), look.base + 14, 0.58), (210 + u(-4, 4), look.base, 0.54)]
    size = u(0.9, 1.12) * WIDE.get(name, 1.0)
    flip = look.rng.random() < 0.5
    for x, y, s in spots:
        p = pen.at(x, y, s * size, flip)
        if name == 'balloon':
            p.y -= u(14, 34) if count == 1 else u(10, 56)
        named = scene['colour']
        if named is None and name in world.COLOURS_OF:
            named = world.COLOURS_OF[name][int(look.rng.integers(2))] if look.rng.random() < 0.5 else None
        if name not in ('balloon', 'boat', 'bridge', 'bird', 'city'):
            p.oval(shade(look.floor, 0.78), 0, 0, 66 * (0.6 if name in ('lighthouse', 'flower', 'tree') else 1), 8)
        draw(p, look, COLOUR[named] if named else None)


FLOOR = {'beach': (244, 214, 140), 'desert': (240, 186, 100), 'field': (226, 190, 74), 'street': (104, 104, 112), 'sea': (128, 118, 108)}


# ---------------------------------------------------------------- weather, light and style
def precipitation(pen, look):
    u = look.u
    if look.weather == 'snow':
        for _ in range(75):
            c = (150, 170, 206) if look.scene['style'] == 'sketch' else (255, 255, 255)
            pen.dot(c, u(0, 256), u(0, 256), u(1.8, 4.2), glow=True)
    if look.weather in ('rain', 'storm'):
        c = (110, 140, 190) if look.scene['style'] == 'sketch' else (196, 214, 236) if look.weather == 'rain' else (150, 164, 190)
        for _ in range(70 if look.weather == 'rain' else 46):
            x, y, n = u(0, 270), u(0, 256), u(12, 20)
            pen.line(c, 2, (x, -y), (x - n * 0.35, -y - n), glow=True)


def lightning(pen, look, h):
    x = look.u(40, 216)
    pen.poly((255, 244, 140), (x, -30), (x - 22, -94), (x - 6, -92), (x - 20, -h), (x + 22, -78), (x + 4, -82), (x + 20, -30), glow=True)


def glow_at(a, x, y, radius, colour, strength):
    """Add light around a point; a: float picture [n, n, 3], x, y and radius in 256ths."""
    n = a.shape[0]
    g = np.arange(n, dtype=np.float32) * (256.0 / n)
    fall = np.exp(-((g[None] - x) ** 2 + (g[:, None] - y) ** 2) / (2 * radius * radius)) * strength
    a += fall[..., None] * np.asarray(colour, np.float32)


def grade(a, look):
    """Mist, mood and lamps."""
    if look.weather == 'fog':
        tone = np.float32((214, 218, 222)) * (0.45 if look.night else 1)
        n = a.shape[0]
        t = np.linspace(0.66, 0.34, n, dtype=np.float32)[:, None, None]
        t = t + 0.12 * np.sin(np.linspace(0, 22, n, dtype=np.float32))[:, None, None]
        a += (tone - a) * t
    grey = a.mean(axis=2, keepdims=True)
    if look.mood == 'happy' or look.mood == 'lively':
        a += (a - grey) * 0.35 + np.float32((10, 6, -6))
    elif look.mood == 'gloomy':
        a += (grey - a) * 0.65
        a *= np.float32((0.58, 0.60, 0.66)) if not look.dark else np.float32((0.82, 0.82, 0.86))
    elif look.mood == 'calm':
        a += (np.float32((214, 222, 240)) - a) * 0.24
    elif look.mood == 'warm':
        glow_at(a, look.cx, look.base - 40, 70, (70, 34, 0), 1.0)
        a *= np.float32((1.05, 0.99, 0.88))
    if look.scene['subject'] == 'fire':
        glow_at(a, look.cx, look.base - 40, 58, (90, 46, 8), 1.0 if look.dark else 0.5)
    elif look.lit and look.dark and look.scene['subject'] in ('cabin', 'tent', 'market', 'castle', 'church'):
        glow_at(a, look.cx, look.base - 40, 56, (60, 38, 8), 1.0)


def sketch(a, rng):
    """Pencil lines on paper, faintly tinted; dark pictures are drawn with more contrast."""
    a = a * (150 / max(60.0, float(a.mean()))) if a.mean() < 150 else a
    lum = a @ np.float32((0.3, 0.59, 0.11))
    edge = np.zeros_like(lum)
    for axis in (0, 1):
        for c in range(3):
            d = np.abs(np.diff(a[..., c], axis=axis))
            if axis == 0:
                edge[:-1] = np.maximum(edge[:-1], d)
            else:
                edge[:, :-1] = np.maximum(edge[:, :-1], d)
    line = np.clip((edge - 10) / 42, 0, 1)[..., None]
    paper = np.float32((246, 242, 232))
    wash = paper * (0.5 + 0.5 * (lum / 255)[..., None])
    grey = lum[..., None]
    tint = wash + (a - grey) * 0.35
    tint += rng.normal(0, 3, lum.shape).astype(np.float32)[..., None]
    return tint * (1 - line) + np.float32((48, 46, 52)) * line


def watercolour(image, rng):
    """Soft blots, bleeding colours, a white ragged border."""
    n = image.size[0]
    soft = image.filter(ImageFilter.MedianFilter(5 if n <= 128 else 7))
    a = np.asarray(soft, np.float32)
    blur = np.asarray(soft.filter(ImageFilter.GaussianBlur(2.0 * n / 128)), np.float32)
    def noise(cells, amount):
        z = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
        return (np.asarray(z.resize((n, n), Image.Resampling.BICUBIC)) - 0.5) * amount
    a = 0.7 * a + 0.3 * blur
    a = a + (255 - a) * np.clip(0.16 + noise(6, 0.34) + noise(20, 0.14), 0, 0.45)[..., None]
    g = np.minimum(np.arange(n), np.arange(n)[::-1]) * (128.0 / n)
    border = np.clip((np.minimum(g[None], g[:, None]) - 3 + noise(12, 9)) / 5, 0, 1)[..., None]
    return np.float32((252, 250, 245)) * (1 - border) + a * border


def paint(scene, rng, size=128):
    """The picture of a scene: uint8 [size, size, 3]. Place, size and details come from rng."""
    look = Look(scene, rng)
    n = 2 * size
    unit = n / 256.0
    horizon = look.u(138, 156)
    look.cx, look.base = look.u(104, 152), look.u(206, 222)
    if scene['setting'] == 'hill':
        look.base = look.u(190, 202)
        horizon = look.u(168, 182)
    elif scene['setting'] == 'river':
        look.base = look.u(204, 214)
    if scene['subject'] == 'boat' and scene['setting'] == 'beach':
        look.base = horizon + look.u(22, 28)
    elif scene['subject'] == 'boat' and scene['setting'] == 'river':
        look.base = look.u(224, 234)
    image = Image.fromarray(sky(look, n))
    draw = ImageDraw.Draw(image)
    light = np.array(LIGHT[look.time]) * DIM.get(look.weather, 1.0)
    pen = Pen(draw, unit, light)
    near = Pen(draw, unit, np.minimum(light * {'night': 1.35, 'sunset': 1.22}.get(look.time, 1.06) + 0.02, 1.05))
    heavens(pen, look, horizon)
    if look.weather == 'storm':
        lightning(pen, look, horizon)
    name = scene['subject']
    look.floor = SNOW if look.white else FLOOR.get(scene['setting'], look.grass)
    if name == 'mountains':
        mountains(pen, look, horizon)
    SETTING[scene['setting']](pen, look, horizon)
    if name in SUBJECT:
        place_subject(near, look)
    elif name != 'mountains':
        LANDSCAPE[name](near, look, horizon)
    if scene['style'] != 'sketch':
        precipitation(pen, look)
    image = image.reduce(2)
    a = np.asarray(image, np.float32).copy()
    grade(a, look)
    a = a.clip(0, 255)
    if scene['style'] == 'sketch':
        a = sketch(a, rng)
        image = Image.fromarray(a.clip(0, 255).astype(np.uint8))
        precipitation(Pen(ImageDraw.Draw(image), unit / 2, (1, 1, 1)), look)
        a = np.asarray(image, np.float32)
    elif scene['style'] == 'watercolour':
        a = watercolour(Image.fromarray(a.astype(np.uint8)), rng)
    return (a.clip(0, 255) + 0.5).clip(0, 255).astype(np.uint8)


# ---------------------------------------------------------------- a sheet to look at
def sheet(pictures, labels, path, columns=6, zoom=2):
    n = pictures[0].shape[0] * zoom
    rows = (len(pictures) + columns - 1) // columns
    page = Image.new('RGB', (columns * (n + 6), rows * (n + 44)), 'white')
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for i, (picture, label) in enumerate(zip(pictures, labels)):
        x, y = (i % columns) * (n + 6), (i // columns) * (n + 44)
        page.paste(Image.fromarray(picture).resize((n, n), Image.Resampling.NEAREST), (x, y))
        for j, line in enumerate(label.split('\n')[:3]):
            draw.text((x, y + n + 1 + 13 * j), unicodedata.normalize('NFKD', line).encode('ascii', 'ignore').decode()[:42], fill='black', font=font)
    page.save(path)


def main():
    path = sys.argv[1]
    rest = sys.argv[2:]
    seed = int(rest.pop(0)) if rest and '=' not in rest[0] else 0
    want = dict(r.split('=') for r in rest)
    rng = np.random.default_rng(seed)
    scenes = []
    while len(scenes) < 24:
        scene = world.sample(rng)
        if all(str(scene[k]) == v for k, v in want.items()):
            if want or scene['subject'] not in [s['subject'] for s in scenes]:
                scenes.append(scene)
    start = time.process_time()
    pictures = [paint(s, rng) for s in scenes]
    spent = (time.process_time() - start) / len(scenes)
    labels = [', '.join(str(v) for v in s.values() if v is not None) + '\n' + world.caption(s, rng, 'fr' if i % 2 else 'en')
              for i, s in enumerate(scenes)]
    sheet(pictures, labels, path)
    print('%s: %d scenes, %.1f ms a picture' % (path, len(scenes), 1000 * spent))


if __name__ == '__main__':
    main()
