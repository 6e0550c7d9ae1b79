"""Sounds of the small world, made from noise, pulses and sines: a scene of sounds.py -> a waveform.

    python weights/train/synth.py SHEET.png    draws a log-mel spectrogram of three clips of every sound
    python weights/train/synth.py --check      prints levels, peaks, speed and determinism

render(scene, rng, seconds, rate) gives float32 samples with a peak below 1. Every clip is another one: pitch,
tempo, timing and timbre are drawn from rng, and the same rng state gives the same samples. A layer is set to a
fixed level (the loud fifth of it at -21 dBFS, soft and loud 8.5 dB below and above), so loudness means something.
Voices are glottal pulses through vowel resonances; everything that rings is a sum of decaying sines; everything
that hisses is noise shaped in frequency and in time.
"""
import functools
import sys

import numpy as np
from scipy import fft      # comes with the training tools; only its float32 transforms are used

RATE = 16000
LEVEL_DB = {'soft': -29.5, 'medium': -21.0, 'loud': -12.5}
F32 = np.float32


# ---- parts ------------------------------------------------------------------------------------------------

def times(n):
    return np.arange(n, dtype=F32) / RATE


def between(rng, low, high):
    return float(rng.uniform(low, high))


def octave(rng, low, high):
    """A number drawn evenly on the logarithmic scale, as pitch and tempo are heard."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def slow(rng, n, hertz, low=0.0, high=1.0):
    """A random curve that wanders between low and high, about `hertz` turns a second."""
    count = max(3, int(n / RATE * hertz) + 3)
    knots = rng.uniform(low, high, count)
    place = np.linspace(0, count - 1.001, n // 64 + 2)
    left = place.astype(int)
    part = place - left
    part = part * part * (3 - 2 * part)
    coarse = knots[left] * (1 - part) + knots[np.minimum(left + 1, count - 1)] * part
    return np.interp(np.arange(n), np.arange(len(coarse)) * 64, coarse).astype(F32)


@functools.lru_cache(maxsize=8)
def log_bins(n):
    """The logarithm of the frequency of each bin of rfft(n)."""
    return np.log(np.maximum(np.arange(n // 2 + 1, dtype=F32) * (RATE / n), 1.0))


def curve(n, points):
    """A line through (hertz, dB) points on a logarithmic frequency scale, as gains for the bins of rfft(n)."""
    hertz, dB = zip(*points)
    return np.exp(np.interp(log_bins(n), np.log(hertz), np.multiply(dB, np.log(10) / 20)).astype(F32))


def coloured(rng, n, points):
    """Noise with the given spectrum, of power about 1."""
    spectrum = fft.rfft(rng.standard_normal(n, dtype=F32)) * curve(n, points)
    x = fft.irfft(spectrum, n)
    return x / (np.sqrt(np.mean(x * x)) + 1e-9)


def filtered(x, points):
    return fft.irfft(fft.rfft(x) * curve(len(x), points), len(x))


def tone(hertz):
    """The running phase of a frequency curve."""
    return (2 * np.pi / RATE) * np.cumsum(hertz, dtype=np.float64)


def harmonics(phase, gains):
    """Sum of gains[h - 1] sin(h phase): gains are numbers, or columns [n, count] that follow the time (Horner's rule)."""
    z = np.exp(1j * np.remainder(phase, 2 * np.pi)).astype(np.complex64)
    gains = np.asarray(gains, F32)
    total = np.zeros(len(z), np.complex64)
    for h in range(gains.shape[-1] - 1, -1, -1):
        total = (total + gains[..., h]) * z
    return total.imag


def throat(hertz, count, formants):
    """Gains [n, count] of the harmonics of a moving pitch through resonances (hertz, width, strength), moving or not."""
    partials = (hertz[:, None] * np.arange(1, count + 1)).astype(F32)
    gain = np.full_like(partials, 0.03)
    for centre, width, strong in formants:
        centre = np.asarray(centre, F32)
        gain += F32(strong) / (1 + ((partials - (centre[:, None] if centre.ndim else centre)) / F32(width)) ** 2)
    return gain * (partials < 7500)


def whistle(rng, n, hertz, width):
    """A narrow band of noise around a moving frequency: slow complex noise carries a sine."""
    count = int(n / RATE * width * 2) + 4
    place = np.linspace(0, count - 1.001, n)
    knots = rng.standard_normal((2, count))
    real, imag = (np.interp(place, np.arange(count), row) for row in knots)
    phase = tone(hertz)
    return (real * np.cos(phase) - imag * np.sin(phase)).astype(F32)


def place(n, starts, grains):
    """Adds grains [count, length] (or one grain for all) at the sample positions `starts`."""
    starts = np.asarray(starts, dtype=np.int64)
    grains = np.broadcast_to(grains, (len(starts), np.shape(grains)[-1]))
    at = (starts[:, None] + np.arange(grains.shape[1])).ravel()
    good = (at >= 0) & (at < n)
    return np.bincount(at[good], weights=grains.ravel()[good], minlength=n).astype(F32)


def ringing(rng, count, length, hertz, decay, gains=None):
    """`count` grains, each a sum of decaying sines: hertz and decay (seconds) [count or 1, partials]."""
    hertz, decay = np.atleast_2d(hertz), np.atleast_2d(decay)
    gains = np.ones(hertz.shape[1]) if gains is None else gains
    t = np.arange(length) / RATE
    out = np.zeros((count, length), F32)
    for p in range(hertz.shape[1]):
        h, d = hertz[:, p, None], decay[:, min(p, decay.shape[1] - 1), None]
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        g = np.atleast_2d(gains)[:, p, None]
        out += (g * np.exp(-t / d) * np.sin(2 * np.pi * h * t + phase)).astype(F32)
    return out * np.minimum(1, np.arange(length) / 12).astype(F32)


def beats(rng, seconds, every, jitter=0.04, start=None):
    """Moments at a steady tempo with a little human unevenness."""
    first = between(rng, 0.02, min(every, 0.6)) if start is None else start
    count = int(max(1, np.ceil((seconds - first) / every)))
    return first + every * (np.arange(count) + rng.normal(0, jitter, count).clip(-0.3, 0.3))


def swell(t, start, length, attack=0.15, release=0.35):
    """A smooth rise and fall: 1 inside [start, start + length]."""
    x = (t - start) / length
    return (np.clip(x / attack, 0, 1) * np.clip((1 - x) / release, 0, 1)).astype(F32) ** 1.2


def pace(layer, rng, slow_, middle, fast):
    """The time between beats for the layer's pace word: each argument is a range in seconds."""
    return octave(rng, *{None: middle, 'slow': slow_, 'fast': fast}[layer.get('pace')])


def room(x, rng, seconds=0.5, wet=0.3):
    """An echoing place: the sound convolved with decaying noise."""
    length = int(seconds * RATE)
    size = fft.next_fast_len(len(x) + length, real=True)
    t = np.arange(length) / length
    echo = rng.standard_normal(length, dtype=F32) * np.exp(-6.9 * t).astype(F32)
    echo /= np.sqrt(np.sum(echo * echo))
    tail = fft.irfft(fft.rfft(x, size) * fft.rfft(echo, size) * curve(size, [(80, -6), (300, 0), (2500, 0), (8000, -12)]), size)
    return x + wet * tail[:len(x)]


# ---- voices -----------------------------------------------------------------------------------------------

VOWELS = np.array([(760, 1250, 2500), (560, 1800, 2500), (420, 2050, 2700), (300, 2250, 3000), (620, 1050, 2450),
                   (440, 860, 2450), (330, 780, 2300), (420, 1450, 2300)], float)          # a e é i o-open o u eu


@functools.lru_cache(maxsize=32)
def vowel_gain(n, vowel, scale=1.0):
    """The magnitude of a throat at the bins of rfft(n): three resonances over a falling glottal spectrum."""
    hertz = np.arange(n // 2 + 1, dtype=F32) * (RATE / n)
    gain = np.zeros_like(hertz)
    for formant, strength, width in zip(VOWELS[vowel] * scale, (1.0, 0.8, 0.5), (80, 110, 150)):
        gain += strength * (width / np.sqrt((hertz - formant) ** 2 + width ** 2)).astype(F32)
    return gain / (1 + hertz / 700) * np.minimum(1, hertz / 120) + 1e-4


class Voices:
    """Many people at once: pulses are sorted by vowel, so that one filter serves all who say it now."""

    def __init__(self, rng, n, scale=1.0):
        self.rng, self.n, self.scale = rng, n, scale
        self.pulses = np.zeros((len(VOWELS), n), F32)
        self.hiss = np.zeros(n, F32)

    def sing(self, start, length, pitch, gain, vowel, glide=None):
        """One voiced stretch: pitch in hertz at its start, glide a list of pitch factors through it."""
        count = max(4, int(length * 200))
        x = np.linspace(0, 1, count)
        factors = np.interp(x, np.linspace(0, 1, len(glide)), glide) if glide is not None else np.ones(count)
        phase = np.concatenate([[0], np.cumsum(pitch * factors[:-1] * length / count)])
        marks = np.arange(int(phase[-1])) + 0.5
        at = np.interp(marks, phase, x)
        shape = (0.15 + 0.85 * np.sin(np.pi * at ** 0.7)) * gain
        where = (start + at * length) * RATE + self.rng.normal(0, 0.25, len(at))
        left = where.astype(np.int64)
        part = where - left
        good = (left >= 0) & (left < self.n - 1)
        np.add.at(self.pulses[vowel], left[good], (shape * (1 - part))[good])
        np.add.at(self.pulses[vowel], left[good] + 1, (shape * part)[good])

    def consonant(self, start, length, gain):
        a, b = int(start * RATE), int((start + length) * RATE)
        a, b = max(a, 0), min(b, self.n)
        if b > a:
            self.hiss[a:b] += gain * np.hanning(b - a + 2)[1:-1].astype(F32)

    def phrase(self, start, syllables, pitch, rate, gain):
        """Speech: syllables with falling melody and consonants between them; gives the moment of its end."""
        rng, t = self.rng, start
        melody = np.linspace(between(rng, 1.05, 1.25), between(rng, 0.8, 0.95), syllables)
        for index in range(syllables):
            length = between(rng, 0.6, 1.2) / rate
            f = pitch * melody[index] * between(rng, 0.92, 1.12)
            if rng.random() < 0.45:
                self.consonant(t - 0.04, between(rng, 0.04, 0.1), gain * between(rng, 0.1, 0.3))
            self.sing(t, length * 0.95, f, gain * between(rng, 0.5, 1), int(rng.integers(len(VOWELS))),
                      (between(rng, 0.88, 1.0), between(rng, 1.0, 1.15), between(rng, 0.8, 1.0)))
            t += length
        return t

    def sound(self):
        n, spectrum = self.n, np.zeros(self.n // 2 + 1, np.complex64)
        for vowel, pulses in enumerate(self.pulses):
            if pulses.any():
                spectrum += fft.rfft(pulses) * vowel_gain(n, vowel, self.scale)
        voiced = fft.irfft(spectrum, n)
        voiced /= np.sqrt(np.mean(voiced * voiced)) + 1e-6
        if not self.hiss.any():
            return voiced
        breath = coloured(self.rng, n, [(1000, -40), (2500, -8), (4500, 0), (7000, -4), (8000, -10)]) * self.hiss
        level = np.sqrt(np.mean(breath * breath)) + 1e-9
        return voiced + breath * (0.13 / level)


# ---- the sounds: each takes (rng, n, layer) and gives n samples of any scale ----------------------------------

def wind(rng, n, layer):
    strong = layer['level'] == 'loud'
    gust = slow(rng, n, between(rng, 0.5, 1.1), 0.12, 1.0) ** 1.6
    base = octave(rng, 300, 520)
    hertz = base * (0.6 + gust * between(rng, 0.8, 1.5))
    x = 0.8 * coloured(rng, n, [(40, -3), (120, 0), (350, -10), (900, -30), (4000, -58)]) * (0.25 + gust)
    x += between(rng, 0.5, 0.9) * whistle(rng, n, hertz, octave(rng, 90, 220)) * gust
    x += (0.5 if strong else 0.22) * whistle(rng, n, hertz * between(rng, 1.9, 2.3), octave(rng, 50, 120)) * gust ** 2
    return x


def rain(rng, n, layer):
    heavy = {'soft': 0.35, 'medium': 1.0, 'loud': 2.0}[layer['level']]
    bright = between(rng, 1500, 2600)
    x = coloured(rng, n, [(150, -34), (bright / 3, -20), (bright, -3), (5000, 0), (8000, -5)]) * slow(rng, n, 1, 0.85, 1.1)
    count = int(n / RATE * octave(rng, 90, 200) * heavy)
    drops = ringing(rng, count, 260, rng.uniform(1800, 6500, (count, 1)), rng.uniform(0.001, 0.004, (count, 1)))
    x = x * 0.5 + place(n, rng.integers(0, n, count), drops * rng.gamma(1.0, 1.3, (count, 1)).astype(F32))
    if rng.random() < 0.6:      # a gutter drips
        at = beats(rng, n / RATE, octave(rng, 0.18, 0.7), 0.12)
        f = octave(rng, 900, 1900)
        x += place(n, (at * RATE).astype(int), 5 * ringing(rng, len(at), 900, rng.uniform(f, f * 1.3, (len(at), 1)), 0.01))
    return x


def thunder(rng, n, layer):
    t, seconds = times(n), n / RATE
    low = coloured(rng, n, [(25, -4), (60, 0), (130, -5), (300, -20), (800, -42), (4000, -70)])
    mid = coloured(rng, n, [(60, -12), (200, 0), (700, -6), (2000, -16), (7000, -34)])
    envelope, crack = np.zeros(n, F32), np.zeros(n, F32)
    start = between(rng, 0.05, 0.9)
    while start < seconds:
        for _ in range(int(rng.integers(4, 8))):
            s = start + abs(rng.normal(0, 0.8))
            envelope += np.where(t > s, between(rng, 0.25, 1) * np.exp(-(t - s) / between(rng, 0.25, 1.0))
                                 * np.clip((t - s) / 0.06, 0, 1), 0)
        for s in start + np.append(0, rng.exponential(0.12, 3)):
            crack += np.where(t > s, between(rng, 0.3, 1) * np.exp(-(t - s) / between(rng, 0.04, 0.16))
                              * np.clip((t - s) / 0.012, 0, 1), 0)
        start += between(rng, 2.2, 4.0)
    rumble = slow(rng, n, 9, 0.35, 1.0)
    far = 0.25 if layer['far'] else 1.0
    bright = coloured(rng, n, [(200, -20), (1000, 0), (3000, -6), (8000, -18)])
    return (low * (0.06 + envelope) * rumble * 1.6 + mid * crack * far * between(rng, 0.5, 1.2)
            + bright * crack ** 2 * far * between(rng, 0.1, 0.5) + mid * envelope ** 1.5 * 0.15 * rumble)


def sea(rng, n, layer):
    t, period = times(n), between(rng, 1.3, 2.6)
    x = coloured(rng, n, [(40, -6), (150, 0), (500, -10), (2000, -26), (8000, -45)]) * 0.1
    wash = coloured(rng, n, [(60, -6), (250, 0), (900, -4), (2500, -10), (8000, -26)])
    foam = coloured(rng, n, [(300, -30), (1200, -8), (3000, 0), (8000, -7)])
    start = -between(rng, 0.2, 1.0) * period
    while start < n / RATE:
        strength, peak = between(rng, 0.6, 1.0), period * between(rng, 0.35, 0.5)
        rise = np.clip((t - start) / peak, 0, 1) ** 2.5
        fall = np.exp(-np.clip(t - start - peak, 0, None) / (period * 0.14))
        x += strength * wash * rise * fall
        later = np.clip((t - start - 0.75 * peak) / (0.35 * peak), 0, 1) ** 2
        x += 0.7 * strength * foam * later * np.exp(-np.clip(t - start - 1.1 * peak, 0, None) / (period * 0.22))
        start += period * between(rng, 0.85, 1.2)
    return x


def bubbles(rng, n, rate, low, high):
    """Drops that ring upwards: the sound of every brook."""
    count, length = int(n / RATE * rate), 1100
    t = np.arange(length) / RATE
    hertz = np.exp(rng.uniform(np.log(low), np.log(high), (count, 1)))
    decay = rng.uniform(3, 11, (count, 1)) / hertz
    rise = rng.uniform(0.0, 8, (count, 1))
    grains = np.sin(2 * np.pi * hertz * t * (1 + rise * t)) * np.exp(-t / decay) * rng.gamma(1, 1, (count, 1))
    return place(n, rng.integers(-length // 2, n, count), grains.astype(F32))


def stream(rng, n, layer):
    centre = octave(rng, 650, 1100)
    x = bubbles(rng, n, octave(rng, 90, 190), centre * 0.6, centre * 2.6) * slow(rng, n, 3, 0.6, 1.2)
    x /= np.sqrt(np.mean(x * x)) + 1e-9
    return x + 0.22 * coloured(rng, n, [(150, -14), (600, 0), (1500, -4), (4000, -16), (8000, -26)]) * slow(rng, n, 2, 0.6, 1)


def waterfall(rng, n, layer):
    tilt = between(rng, -3, 3)
    x = coloured(rng, n, [(40, -8), (100, 0), (600, -3), (2000, -6 + tilt), (5000, -10 + tilt), (8000, -14 + tilt)])
    return x * slow(rng, n, 6, 0.92, 1.08) + 0.12 * bubbles(rng, n, 60, 200, 600)


def fire(rng, n, layer):
    rate = octave(rng, 14, 32) * {'soft': 0.7, 'medium': 1, 'loud': 1.5}[layer['level']]
    seconds = n / RATE
    density = slow(rng, n, 1.5, 0.1, 1.0)
    at = rng.integers(0, n, int(rate * seconds * 2))
    at = at[rng.random(len(at)) < density[at]]
    count = len(at)
    size = np.minimum(rng.pareto(1.4, (count, 1)) + 0.25, 7)
    length = 420
    t = np.arange(length) / RATE
    decay = rng.uniform(0.0006, 0.004, (count, 1))
    snaps = rng.standard_normal((count, length), dtype=F32) * np.exp(-t / decay)
    x = place(n, at, snaps * size)
    x = filtered(x, [(100, -18), (600, -5), (1500, 0), (4000, 0), (8000, -6)]) * 1.6
    x += 0.30 * coloured(rng, n, [(30, -8), (90, 0), (250, -4), (600, -16), (2500, -34)]) * slow(rng, n, 7, 0.3, 1)
    return x + 0.03 * coloured(rng, n, [(500, -20), (3000, 0), (8000, -4)]) * slow(rng, n, 3, 0.2, 1)


def chirps(rng, n, start, count, gap, length, low, high, shape, gain):
    """A motif of whistled notes that slide between low and high (hertz)."""
    m = int(length * RATE)
    x = np.linspace(0, 1, m)
    path = {'up': x, 'down': 1 - x, 'arch': np.sin(np.pi * x), 'dip': 1 - np.sin(np.pi * x),
            'warble': 0.5 + 0.5 * np.sin(2 * np.pi * x * between(rng, 2, 5))}[shape]
    phase = tone(low * (high / low) ** path)
    grain = (np.sin(phase) + 0.06 * np.sin(2 * phase)) * np.sin(np.pi * x ** 0.8) ** 1.2 * gain
    return place(n, ((start + np.arange(count) * gap) * RATE).astype(int), grain.astype(F32))


def birds(rng, n, layer):
    x, seconds = np.zeros(n, F32), n / RATE
    for _ in range(int(rng.integers(2, 5))):
        low = octave(rng, 2200, 4000)
        high = min(low * between(rng, 1.2, 1.8), 7000)
        shape = ['up', 'down', 'arch', 'dip', 'warble'][int(rng.integers(5))]
        count, length = int(rng.integers(1, 7)), between(rng, 0.05, 0.22)
        gap = length * between(rng, 1.15, 1.9)
        gain, t = between(rng, 0.3, 1), between(rng, 0, 0.8)
        while t < seconds:
            x += chirps(rng, n, t, count, gap, length, low, high, shape, gain)
            t += count * gap + between(rng, 0.25, 0.9)
    return x


def gulls(rng, n, layer):
    t_all, x = times(n), np.zeros(n, F32)
    for _ in range(int(rng.integers(1, 3))):
        base, t = octave(rng, 750, 1150), between(rng, 0, 0.5)
        while t < n / RATE:
            for index in range(int(rng.integers(2, 6))):
                length = between(rng, 0.28, 0.45) * (0.93 ** index)
                m = int(length * RATE)
                u = np.linspace(0, 1, m)
                phase = tone(base * (0.95 ** index) * np.interp(u, [0, 0.15, 0.35, 1], [0.75, 1.45, 1.2, 0.8]))
                call = harmonics(phase, (0.7, 1, 0.6, 0.35, 0.15))
                call = call * np.sin(np.pi * u ** 0.7) ** 0.8 * (1 + 0.3 * np.sin(2 * np.pi * 55 * u * length))
                x += place(n, [int(t * RATE)], call[None].astype(F32))
                t += length + between(rng, 0.03, 0.12)
            t += between(rng, 0.3, 0.9)
    return x + 0.02 * coloured(rng, n, [(60, 0), (400, -8), (3000, -24), (8000, -40)]) * slow(rng, n, 0.7, 0.4, 1)


def crickets(rng, n, layer):
    t, x = times(n), np.zeros(n, F32)
    for index in range(int(rng.integers(2, 5))):
        carrier = between(rng, 3700, 5400)
        pulse, chirp = between(rng, 22, 40), between(rng, 1.4, 3.2)
        phase = t * chirp + between(rng, 0, 1)
        on = np.clip((between(rng, 0.3, 0.6) - np.abs(2 * (phase % 1) - 1)) * 12, 0, 1) if rng.random() < 0.75 else 1.0
        pulses = np.clip(np.sin(2 * np.pi * pulse * t + between(rng, 0, 6)), 0, 1) ** 1.5
        x += (between(rng, 0.3, 1) * on * pulses * np.sin(2 * np.pi * carrier * t * (1 + 0.0004 * np.sin(9 * t)))).astype(F32)
    return x + 0.015 * coloured(rng, n, [(80, 0), (500, -8), (3000, -20), (8000, -30)])


def market(rng, n, layer):
    seconds = n / RATE
    people = int(rng.integers(4, 7)) if layer['level'] == 'soft' else int(rng.integers(7, 13))
    crowd = Voices(rng, n)
    for _ in range(people):
        pitch = octave(rng, 95, 260)
        rate, gain, t = between(rng, 4, 6.5), between(rng, 0.25, 0.8), between(rng, -1.0, 0.5)
        while t < seconds:
            t = crowd.phrase(t, int(rng.integers(3, 10)), pitch, rate, gain) + between(rng, 0.1, 0.7)
    for _ in range(int(rng.integers(1, 4))):        # a trader calls out
        pitch, t = octave(rng, 170, 340), between(rng, 0, seconds)
        for index in range(int(rng.integers(2, 5))):
            length = between(rng, 0.16, 0.4)
            crowd.sing(t, length, pitch * between(rng, 0.9, 1.35), 2.2, int(rng.integers(len(VOWELS))), (0.9, 1.1, 1.0))
            t += length + 0.05
    x = room(crowd.sound(), rng, between(rng, 0.25, 0.5), between(rng, 0.2, 0.45))
    x /= np.sqrt(np.mean(x * x)) + 1e-9
    x += 0.12 * coloured(rng, n, [(80, -6), (250, 0), (900, -6), (3000, -18), (8000, -32)])
    count = int(rng.integers(5, 14) * seconds / 4.1)    # crates, crockery, coins
    wood = place(n, rng.integers(0, n, count), ringing(
        rng, count, 1600, rng.uniform([180, 420, 900], [320, 800, 1700], (count, 3)), 0.018) * rng.gamma(1.5, 0.9, (count, 1)))
    count = int(rng.integers(3, 10) * seconds / 4.1)
    clinks = place(n, rng.integers(0, n, count), ringing(
        rng, count, 3000, rng.uniform([2200, 3500, 5200], [3200, 5000, 7200], (count, 3)), 0.05) * rng.gamma(1.2, 0.5, (count, 1)))
    return x + wood.astype(F32) + clinks.astype(F32)


def conversation(rng, n, layer):
    seconds, speakers = n / RATE, int(rng.integers(2, 4))
    talk = Voices(rng, n)
    low = octave(rng, 90, 140)
    pitches = [low, low * between(rng, 1.5, 2.1), low * between(rng, 1.2, 2.3)][:speakers]
    t, who = between(rng, 0.0, 0.3), int(rng.integers(speakers))
    while t < seconds:
        t = talk.phrase(t, int(rng.integers(3, 9)), pitches[who], between(rng, 3.6, 5.2), between(rng, 0.7, 1.0))
        t += between(rng, 0.15, 0.4) if rng.random() < 0.8 else -0.2
        who = (who + int(rng.integers(1, speakers))) % speakers if speakers > 1 else who
    return room(talk.sound(), rng, 0.2, 0.15)


def bell(rng, n, layer):
    seconds = n / RATE
    every = pace(layer, rng, (2.0, 2.8), (1.0, 1.9), (0.5, 0.8))
    x = np.zeros(n, F32)
    base = octave(rng, 230, 480)
    for which in range(1 if rng.random() < 0.6 else 2):
        f = base * (1.0 if which == 0 else [1.1892, 1.335, 1.498][int(rng.integers(3))])
        partials = np.array([0.5, 1, 1.183, 1.506, 2.0, 2.514, 2.662, 3.011, 4.166, 5.43]) * rng.normal(1, 0.004, 10)
        gains = np.array([0.5, 0.8, 0.8, 0.35, 1.0, 0.4, 0.5, 0.4, 0.35, 0.2])
        length = min(n, int(3.5 * RATE))
        decay = np.array([2.2, 1.6, 1.2, 0.8, 0.9, 0.5, 0.4, 0.4, 0.25, 0.15]) * between(rng, 0.7, 1.2)
        strike = ringing(rng, 1, length, f * partials, decay, gains)
        at = beats(rng, seconds, every * (1 if which == 0 else between(rng, 0.9, 1.15)), 0.02)
        for when in at:
            a = int(max(when, 0) * RATE)
            x[a:a + length] += strike[0, :n - a] * between(rng, 0.75, 1)
    return room(x, rng, 0.7, 0.15)


def footsteps(rng, n, layer):
    every = pace(layer, rng, (0.75, 0.95), (0.47, 0.68), (0.28, 0.38))
    at = beats(rng, n / RATE, every, 0.03)
    x, bright = np.zeros(n, F32), between(rng, -6, 4)
    t = times(int(0.3 * RATE))
    for index, when in enumerate(at):
        side = 1 if index % 2 else between(rng, 0.75, 0.95)
        heel = swell(t, 0.0, between(rng, 0.07, 0.1), 0.2, 0.7)
        toe = swell(t, between(rng, 0.09, 0.12), between(rng, 0.1, 0.16), 0.35, 0.6)
        grit = (rng.random(len(t)) < 0.12) * rng.standard_normal(len(t)) * 2.5 + 0.25 * rng.standard_normal(len(t))
        a = int(max(when, 0) * RATE)
        step = (grit * (heel + 0.8 * toe) * side).astype(F32)
        x[a:a + len(t)] += step[:n - a]
    x = filtered(x, [(80, -20), (300, -10), (900, 0), (2500, 1), (5000, bright), (8000, bright - 8)])
    thud = ringing(rng, 1, 1200, [[75, 120]], 0.022, [1, 0.6])
    return x + place(n, at * RATE, thud * 1.2)


def train(rng, n, layer):
    t, seconds = times(n), n / RATE
    every = pace(layer, rng, (0.95, 1.2), (0.55, 0.8), (0.32, 0.42))
    x = 0.55 * coloured(rng, n, [(40, -3), (90, 0), (300, -5), (900, -16), (3000, -32)]) * slow(rng, n, 2, 0.8, 1.1)
    first = beats(rng, seconds, every, 0.012)
    gap = every * between(rng, 0.2, 0.28)
    at = np.concatenate([first, first + gap, first + 2 * gap])
    loud = np.concatenate([np.ones(len(first)), np.full(len(first), 0.8), np.full(len(first), between(rng, 0, 0.6))])[:, None]
    clack = rng.standard_normal((len(at), 1000), dtype=F32) * np.exp(-np.arange(1000) / 260).astype(F32)
    x += filtered(place(n, at * RATE, clack * loud), [(60, -14), (180, 0), (700, 0), (1800, -6), (5000, -24)]) * 3.0
    if rng.random() < 0.75:     # the horn: a chord
        length, start = between(rng, 0.7, 1.5), between(rng, 0.1, max(0.2, seconds - 1.6))
        base, horn = octave(rng, 277, 392), np.zeros(n)
        for ratio in [(1, 1.26, 1.5), (1, 1.189, 1.414, 1.682), (1, 1.335)][int(rng.integers(3))]:
            horn += harmonics(2 * np.pi * base * ratio * times(n).astype(float), (1, 0.7, 0.5, 0.25, 0.12))
        x += (0.5 * horn * swell(t, start, length, 0.08, 0.15)).astype(F32)
    return x


def engine(rng, n, layer):
    t, idle = times(n), octave(rng, 32, 62)
    kind = rng.random()
    if kind < 0.35:
        revs = idle * slow(rng, n, 0.8, 0.95, 1.1)
    elif kind < 0.75:           # blips of the pedal
        revs = idle * slow(rng, n, between(rng, 0.6, 1.3), 0.9, 2.6)
    else:                       # drives off through the gears
        gear = between(rng, 0.9, 1.5)
        revs = idle * (1.1 + 1.3 * ((t + between(rng, 0, 1)) % gear) / gear)
    phase = tone(revs)
    rough = 1 + 0.35 * np.sin(phase / 2 + 1) + 0.2 * np.sin(phase / 4)
    pulse = np.exp(-14 * (1 - np.cos(phase))) * rough
    x = filtered((pulse - pulse.mean()).astype(F32), [(30, -6), (80, 0), (250, 2), (600, 0), (1200, -4), (3000, -16), (8000, -36)])
    x /= np.sqrt(np.mean(x * x)) + 1e-9
    hum = coloured(rng, n, [(60, -10), (200, 0), (800, -6), (2500, -16), (8000, -30)])
    return x * (revs / idle) ** 0.5 + 0.3 * hum * pulse.astype(F32) ** 0.3


def dog(rng, n, layer):
    every = pace(layer, rng, (0.75, 1.0), (0.42, 0.65), (0.26, 0.34))
    base = octave(rng, 230, 520)
    scale = (base / 330) ** 0.5
    t_, x, seconds = between(rng, 0.02, 0.4), np.zeros(n, F32), n / RATE
    while t_ < seconds:
        for _ in range(int(rng.integers(1, 4))):
            length = between(rng, 0.13, 0.22)
            m = int(length * RATE)
            u = np.linspace(0, 1, m)
            f = base * between(rng, 0.92, 1.08) * np.interp(u, [0, 0.25, 0.6, 1], [0.7, 1.35, 1.15, 0.6])
            phase = tone(f * (1 + 0.05 * rng.standard_normal(m).cumsum() / np.sqrt(m)))
            bark = harmonics(phase, throat(f, 14, ((700 * scale, 350, 1), (1500 * scale, 450, 0.7))))
            bark = bark + 0.5 * rng.standard_normal(m) * np.sin(np.pi * u)
            bark *= np.clip(u / 0.08, 0, 1) * (1 - u) ** 0.8
            x += place(n, [int(t_ * RATE)], bark[None].astype(F32))
            t_ += max(every, length + 0.03) * between(rng, 0.95, 1.08)
        t_ += between(rng, 0.2, 0.8)
    return room(x, rng, 0.3, 0.18)


def cat(rng, n, layer):
    x, seconds, t_ = np.zeros(n, F32), n / RATE, between(rng, 0.05, 0.8)
    base = octave(rng, 420, 720)
    while t_ < seconds - 0.2:
        length = between(rng, 0.55, 1.1)
        m = int(length * RATE)
        u = np.linspace(0, 1, m)
        f = base * between(rng, 0.93, 1.1) * np.interp(u, [0, 0.3, 0.6, 1], [0.75, 1.25, 1.2, 0.7])
        f *= 1 + 0.012 * np.sin(2 * np.pi * 6 * u * length)
        first = np.interp(u, [0, 0.2, 0.55, 1], [500, 900, 1300, 600])
        second = np.interp(u, [0, 0.2, 0.55, 1], [2600, 2500, 1900, 1100])
        meow = harmonics(tone(f), throat(f, 11, ((first, 300, 1), (second, 350, 0.8)))) * np.sin(np.pi * u ** 0.75) ** 0.7
        x += place(n, [int(t_ * RATE)], meow[None].astype(F32))
        t_ += length + between(rng, 0.3, 1.2)
    return room(x, rng, 0.25, 0.12)


def owl(rng, n, layer):
    x, seconds, t_ = np.zeros(n, F32), n / RATE, between(rng, 0.0, 0.5)
    base = octave(rng, 300, 470)
    motif = [[0.45, 0.14, 0.16, 0.6], [0.3, 0.3, 0.3], [0.2, 0.2, 0.7], [0.7]][int(rng.integers(4))]
    while t_ < seconds:
        for part in motif:
            m = int(part * RATE)
            u = np.linspace(0, 1, m)
            phase = tone(base * (1 + 0.06 * np.sin(np.pi * u)) * (1 + 0.008 * np.sin(2 * np.pi * 7 * u)))
            hoot = (np.sin(phase) + 0.25 * np.sin(2 * phase) + 0.06 * np.sin(3 * phase)) * np.sin(np.pi * u) ** 0.6
            x += place(n, [int(t_ * RATE)], hoot[None].astype(F32))
            t_ += part + between(rng, 0.08, 0.2)
        t_ += between(rng, 0.4, 1.0)
    return room(x, rng, 0.8, 0.25)


def horse(rng, n, layer):
    kind = layer.get('pace')
    every = pace(layer, rng, (0.75, 0.95), (0.5, 0.68), (0.34, 0.44))
    pattern = {'slow': [0, 0.25, 0.5, 0.75], None: [0, 0.45], 'fast': [0, 0.24, 0.46]}[kind]
    cycle = beats(rng, n / RATE, every, 0.02)
    at = np.concatenate([cycle + every * (p + rng.normal(0, 0.01)) for p in pattern])
    tones = np.repeat(np.array([[760, 1500, 2500], [980, 1900, 3100], [840, 1650, 2700], [900, 1780, 2900]])[:len(pattern)],
                      len(cycle), axis=0) * between(rng, 0.75, 1.3)
    knocks = ringing(rng, len(at), 1400, tones * rng.normal(1, 0.02, tones.shape), [[0.016, 0.010, 0.006]], [1, 0.8, 0.5])
    click = rng.standard_normal((len(at), 1400), dtype=F32) * np.exp(-np.arange(1400) / 40).astype(F32) * 0.5
    return room(place(n, at * RATE, (knocks + click) * rng.uniform(0.7, 1, (len(at), 1))), rng, 0.35, 0.25)


def music_box(rng, n, layer):
    step = pace(layer, rng, (0.36, 0.48), (0.2, 0.3), (0.11, 0.15))
    root = 523.25 * 2 ** (int(rng.integers(-3, 8)) / 12)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19])
    count = int(n / RATE / step) + 1
    walk = np.clip(np.cumsum(rng.integers(-2, 3, count)) + 5, 0, 11)
    keep = (rng.random(count) < 0.85) | (np.arange(count) % 4 == 0)
    at, notes = np.arange(count)[keep] * step, root * 2 ** (scale[walk[keep]] / 12)
    bass = np.arange(0, count, 4)
    at = np.concatenate([at, bass * step]) + between(rng, 0, 0.2)
    notes = np.concatenate([notes, root * 2 ** (np.array([0, 5, 7, 0])[rng.integers(0, 4, len(bass))] / 12)])
    decay = np.array([[0.55, 0.25, 0.09]]) * between(rng, 0.7, 1.2)
    tones = ringing(rng, len(at), 12000, notes[:, None] * np.array([[1, 3.01, 5.42]]), decay, [1, 0.3, 0.18])
    return room(place(n, at * RATE, tones * rng.uniform(0.6, 1, (len(at), 1))), rng, 0.4, 0.12)


def children(rng, n, layer):
    seconds, play = n / RATE, Voices(rng, n, 1.3)
    for _ in range(int(rng.integers(4, 8))):
        pitch, t = octave(rng, 300, 520), between(rng, -0.5, 1.0)
        while t < seconds:
            kind, gain = rng.random(), between(rng, 0.4, 1.0)
            if kind < 0.4:          # laughs
                step = between(rng, 0.14, 0.2)
                for index in range(int(rng.integers(3, 8))):
                    play.sing(t, step * 0.6, pitch * 1.2 * 0.97 ** index, gain, 0, (1.0, 1.1, 0.85))
                    t += step
            elif kind < 0.65:       # squeals
                length = between(rng, 0.3, 0.6)
                play.sing(t, length, pitch * between(rng, 1.6, 2.3), gain * 0.8, int(rng.integers(1, 4)), (0.8, 1.15, 1.1, 0.8))
                t += length
            else:
                t = play.phrase(t, int(rng.integers(2, 6)), pitch, between(rng, 4.5, 6), gain)
            t += between(rng, 0.2, 0.9)
    return room(play.sound(), rng, 0.4, 0.35)


def frogs(rng, n, layer):
    t, x = times(n), np.zeros(n, F32)
    for _ in range(int(rng.integers(1, 4))):
        rate, length, every = octave(rng, 24, 48), between(rng, 0.2, 0.45), between(rng, 0.55, 1.0)
        low = octave(rng, 420, 900)
        at = beats(rng, n / RATE, every, 0.05)
        count = max(3, int(length * rate))
        starts = (at[:, None] + np.arange(count) / rate).ravel()
        sizes = np.tile(np.sin(np.pi * (np.arange(count) + 0.7) / (count + 0.4)), len(at))[:, None]
        pulse = ringing(rng, 1, 500, [[low, low * 2.1]], 0.006, [1, 0.7])
        x += place(n, starts * RATE, pulse * sizes.astype(F32)) * between(rng, 0.4, 1)
    return room(x, rng, 0.3, 0.15) + 0.004 * coloured(rng, n, [(80, 0), (1000, -8), (8000, -30)])


def hammer(rng, n, layer):
    every = pace(layer, rng, (0.9, 1.2), (0.48, 0.75), (0.26, 0.36))
    at = beats(rng, n / RATE, every, 0.03)
    if rng.random() < 0.4:      # the smith lets it bounce
        at = np.concatenate([at, at + every * 0.35])
    f = octave(rng, 1500, 2400)
    partials = f * np.array([[1, 1.61, 2.23, 2.91, 3.4]]) * rng.normal(1, 0.02, 5)
    blow = ringing(rng, len(at), 7000, partials, np.array([[0.14, 0.11, 0.08, 0.05, 0.04]]) * between(rng, 0.7, 1.3), [1, 0.9, 0.7, 0.5, 0.4])
    blow += 0.8 * ringing(rng, len(at), 7000, [[160, 260]], 0.02)
    blow[:, :300] += rng.standard_normal((len(at), 300), dtype=F32) * np.exp(-np.arange(300) / 50).astype(F32)
    return room(place(n, at * RATE, blow * rng.uniform(0.6, 1, (len(at), 1))), rng, 0.4, 0.15)


def clock(rng, n, layer):
    every = pace(layer, rng, (0.85, 1.1), (0.42, 0.6), (0.2, 0.27))
    at = beats(rng, n / RATE, every, 0.003)
    f = octave(rng, 1500, 3000)
    high = np.where(np.arange(len(at)) % 2, 1.0, 0.78)[:, None]
    ticks = ringing(rng, len(at), 900, high * f * np.array([[1, 1.7, 2.4]]), [[0.006, 0.004, 0.003]], [1, 0.7, 0.5])
    ticks += 0.5 * ringing(rng, len(at), 900, high * np.array([[310.0]]), 0.012)
    return room(place(n, at * RATE, ticks), rng, 0.2, 0.12)


def siren(rng, n, layer):
    t, kind = times(n), rng.random()
    low = octave(rng, 420, 640)
    if kind < 0.45:             # two notes
        half = between(rng, 0.4, 0.7)
        hertz = np.where(((t + between(rng, 0, 1)) / half).astype(int) % 2, low, low * between(rng, 1.25, 1.36))
        hertz = np.convolve(np.pad(hertz, 150, 'edge'), np.ones(301) / 301, 'valid')
    else:                       # wails
        turn = between(rng, 0.35, 1.4)
        hertz = low * 2 ** ((0.5 - 0.5 * np.cos(2 * np.pi * (t * turn + between(rng, 0, 1)))) * between(rng, 0.9, 1.25))
    x = harmonics(tone(hertz), (1, 0.45, 0.4, 0.15, 0.12))
    return room((x * slow(rng, n, 1, 0.8, 1)).astype(F32), rng, 0.4, 0.2)


def foghorn(rng, n, layer):
    t, x, start, seconds = times(n), np.zeros(n, F32), between(rng, 0.0, 0.6), n / RATE
    base = octave(rng, 75, 135)
    while start < seconds:
        length = between(rng, 1.0, 2.0)
        u = (t - start) / length
        phase = tone(base * (1 - 0.06 * np.exp(-np.clip(u, 0, None) * 12)))
        blast = harmonics(phase, (0.9, 1, 0.8, 0.6, 0.4, 0.28, 0.2, 0.12, 0.08))
        x += (blast * (1 + 0.1 * np.sin(2 * np.pi * 17 * t)) * swell(t, start, length, 0.1, 0.12)).astype(F32)
        start += length + between(rng, 0.5, 1.1)
    return room(x, rng, 0.9, 0.3)


def rooster(rng, n, layer):
    x, seconds, t_ = np.zeros(n, F32), n / RATE, between(rng, 0.0, 0.7)
    base = octave(rng, 480, 700)
    while t_ < seconds - 0.4:
        for length, path in ((0.16, (0.8, 1.0, 0.9)), (0.16, (1.0, 1.1, 1.0)), (0.2, (1.05, 1.3, 1.1)),
                             (between(rng, 0.55, 0.9), (1.1, 1.55, 1.5, 1.35, 0.8))):
            m = int(length * RATE)
            u = np.linspace(0, 1, m)
            f = base * np.interp(u, np.linspace(0, 1, len(path)), path) * (1 + 0.01 * np.sin(2 * np.pi * 25 * u * length))
            call = harmonics(tone(f), throat(f, 10, ((1300, 500, 1), (2700, 600, 0.6)))) * np.sin(np.pi * u ** 0.7) ** 0.5
            x += place(n, [int(t_ * RATE)], call[None].astype(F32))
            t_ += length + between(rng, 0.02, 0.06)
        t_ += between(rng, 0.5, 1.1)
    return room(x, rng, 0.4, 0.15)


MAKERS = {f.__name__: f for f in (
    wind, rain, thunder, sea, stream, waterfall, fire, birds, gulls, crickets, market, conversation, bell, footsteps,
    train, engine, dog, cat, owl, horse, music_box, children, frogs, hammer, clock, siren, foghorn, rooster)}


# ---- scenes -----------------------------------------------------------------------------------------------

def strength(x):
    """The level of a clip: the power of its louder fifth in windows of 32 ms, so that pauses do not count."""
    power = np.mean(x[:len(x) // 512 * 512].reshape(-1, 512) ** 2, axis=1)
    return float(np.sqrt(np.mean(np.sort(power)[-max(1, len(power) // 5):])))


def render_layer(layer, rng, n):
    x = np.asarray(MAKERS[layer['key']](rng, n, layer), F32)[:n]
    tilt = between(rng, -3, 3)                      # another microphone every time
    points = [(60, -tilt), (700, 0), (8000, tilt)]
    if layer['far']:                                # air takes the treble, the landscape echoes
        x = room(x, rng, 0.9, 0.6)
        points = [(60, -2), (700, 0), (1800, -3), (4000, -11), (8000, -24)]
    x = filtered(x, points)
    return x * (10 ** ((LEVEL_DB[layer['level']] + between(rng, -1, 1)) / 20) / (strength(x) + 1e-9))


def render(scene, rng, seconds=4.096, rate=RATE):
    """The waveform of a scene: float32, peak below 1 (rare peaks are bent, not cut)."""
    assert rate == RATE, 'the small world is 16 kHz'
    n = int(round(seconds * rate))
    x = sum(render_layer(layer, rng, n) for layer in scene['layers'])
    x = x + coloured(rng, n, [(50, 0), (400, -8), (8000, -22)]) * 10 ** (between(rng, -68, -60) / 20)
    edge = 80
    x[:edge] *= np.linspace(0, 1, edge)
    x[-edge:] *= np.linspace(1, 0, edge)
    over = np.abs(x) > 0.6
    return np.where(over, np.sign(x) * (0.6 + 0.38 * np.tanh((np.abs(x) - 0.6) / 0.38)), x).astype(F32)


# ---- looking and checking ---------------------------------------------------------------------------------

def log_mel(x, bands=64, window=1024, hop=256):
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, window // 2), window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hertz = np.arange(window // 2 + 1) * RATE / window
    up = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    return 10 * np.log10(power @ np.clip(np.minimum(up, down), 0, None).T + 1e-6)


def sheet(path, far=False):
    from PIL import Image, ImageDraw
    import sounds
    across, wide, high = 2, 256 * 3 + 12, 64 * 2 + 18
    picture = Image.new('RGB', (across * wide, (len(sounds.KEYS) + across - 1) // across * high), 'white')
    draw = ImageDraw.Draw(picture)
    for index, key in enumerate(sounds.KEYS):
        x, y = index % across * wide, index // across * high
        draw.text((x + 2, y + 2), key, fill='black')
        for take, level in enumerate(('medium', 'medium', 'far' if far else 'medium')):
            rng = np.random.default_rng([7, index, take])
            clip = render({'layers': [sounds.layer_of(key, rng, level)]}, rng)
            grey = np.clip((log_mel(clip)[:256].T[::-1] + 40) / 85, 0, 1)
            image = Image.fromarray((grey * 255).astype(np.uint8)).resize((256, 128), Image.NEAREST)
            picture.paste(image, (x + take * 260, y + 16))
    picture.save(path)


def check():
    import time
    import sounds
    dB = lambda x: 20 * np.log10(np.sqrt(np.mean(x * x)) + 1e-9)
    print(f'{"rms dBFS":14}{"soft":>8}{"medium":>8}{"loud":>8}{"step":>8}{"peak":>8}{"bent":>8}{"ms":>8}')
    for index, key in enumerate(sounds.KEYS):
        row, peak, bent, start = [], 0, 0, time.perf_counter()
        for level in sounds.LEVELS:
            clips = []
            for take in range(6):
                rng = np.random.default_rng([3, index, take])
                clips.append(render({'layers': [dict(sounds.layer_of(key, rng, level), pace=None)]}, rng))
                again = np.random.default_rng([3, index, take])
                if take == 0:
                    same = render({'layers': [dict(sounds.layer_of(key, again, level), pace=None)]}, again)
                    assert np.array_equal(same, clips[0]), key
                assert np.isfinite(clips[-1]).all() and clips[-1].shape == (65536,) and clips[-1].dtype == F32
            row.append(np.mean([dB(c) for c in clips]))
            peak = max(peak, max(np.abs(c).max() for c in clips))
            bent = max(bent, np.mean([np.mean(np.abs(c) > 0.6) for c in clips]))
        ms = (time.perf_counter() - start) / 21 * 1000
        assert peak < 1 and row[2] - row[0] > 12 and row[0] > -50, (key, row, peak)
        print(f'{key:14}' + ''.join(f'{v:8.1f}' for v in row) + f'{row[2] - row[0]:8.1f}{peak:8.2f}{bent * 100:7.2f}%{ms:8.1f}')


if __name__ == '__main__':
    check() if sys.argv[1] == '--check' else sheet(sys.argv[1])
