"""The pixels of the bundled clips: shapes, motions, backgrounds and H.264 files."""

import functools
import io
import math
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from .grammar import Event

SIZE = 64  # pixels, width and height of a clip
OVER = 3  # drawing happens at OVER times the size, for smooth edges
FPS = 8
RADII = {"small": 0.125, "medium": 0.19, "large": 0.285}  # fractions of the width
SPOTS = (0.375, 0.5, 0.625)  # where a shape stands or passes
# Shapes move and turn in steps, by an eighth of the width and of a turn. Patches of the bundled CLIP are as wide, so
# that it meets few different patches and learns shapes from some ten thousand stills.
STEPS = 8
LOOKS = ("scenes", "stories")

COLOURS = {
    "scenes": {
        "red": (222, 32, 38), "orange": (247, 140, 20), "yellow": (250, 222, 40), "green": (36, 160, 60),
        "blue": (34, 80, 220), "purple": (132, 40, 170), "pink": (250, 130, 190), "brown": (120, 70, 30),
        "white": (248, 248, 248), "black": (20, 20, 24),
    },
    "stories": {
        "red": (190, 30, 60), "orange": (230, 110, 40), "yellow": (235, 200, 70), "green": (20, 120, 90),
        "blue": (60, 100, 180), "purple": (100, 50, 140), "pink": (235, 110, 150), "brown": (95, 60, 45),
        "white": (240, 236, 228), "black": (40, 36, 44),
    },
}  # fmt: skip
# Top colour, bottom colour and pattern colour of each background.
GROUNDS = {
    "scenes": {
        "sky": ((110, 175, 240), (190, 222, 250), (235, 243, 252)),
        "grass": ((120, 190, 90), (80, 150, 60), (60, 125, 50)),
        "sand": ((238, 214, 160), (215, 180, 120), (190, 152, 95)),
        "night": ((14, 16, 48), (34, 36, 84), (230, 230, 180)),
        "snow": ((190, 204, 222), (218, 226, 236), (255, 255, 255)),
        "brick": ((168, 92, 74), (150, 80, 66), (205, 190, 180)),
        "sea": ((60, 150, 170), (30, 105, 140), (130, 200, 210)),
        "tiles": ((186, 186, 190), (160, 160, 166), (112, 112, 120)),
    },
    "stories": {
        "sky": ((165, 190, 205), (205, 214, 214), (226, 228, 222)),
        "grass": ((160, 176, 120), (130, 150, 96), (104, 126, 84)),
        "sand": ((222, 206, 176), (204, 182, 150), (176, 152, 122)),
        "night": ((44, 42, 66), (66, 60, 88), (200, 192, 160)),
        "snow": ((186, 192, 200), (204, 206, 210), (240, 240, 240)),
        "brick": ((176, 124, 106), (160, 112, 98), (206, 192, 178)),
        "sea": ((112, 152, 156), (84, 124, 136), (150, 182, 180)),
        "tiles": ((190, 184, 176), (172, 166, 160), (134, 128, 124)),
    },
}  # fmt: skip


ORBIT = 0.18  # radius of the path of a shape that goes round, a fraction of the width
DARK, LIGHT = (30, 30, 40), (235, 235, 240)  # marks of motion, whichever stands out from the background
LINE = 2 * OVER  # width of a mark of motion at the drawing size


def _phase(event: Event, time: float) -> float:
    return 2 * math.pi * (event.layout[0] + 0.8 * time)


@functools.cache
def loops(shape: str) -> list[np.ndarray]:
    """Closed outlines of a shape of unit radius, each (points, 2) with x to the right and y down; a ring has two."""
    turn = np.linspace(0, 2 * math.pi, 33)

    def polar(radius, angle):
        return np.stack([radius * np.sin(angle), -radius * np.cos(angle)], axis=1)

    def polygon(corners, start=0.0):
        return polar(1, start + np.linspace(0, 2 * math.pi, corners + 1))

    if shape == "circle":
        return [polar(0.95, turn)]
    if shape == "square":
        return [polygon(4, math.pi / 4) * 1.15]
    if shape == "triangle":
        return [polygon(3) * 1.15]
    if shape == "star":
        return [polar(np.where(np.arange(11) % 2, 0.48, 1.2), np.linspace(0, 2 * math.pi, 11))]
    if shape == "heart":
        x = 16 * np.sin(turn) ** 3
        y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
        return [np.stack([x, y], axis=1) / 16]
    if shape == "cross":
        corner = [(-0.36, -1), (0.36, -1), (0.36, -0.36), (1, -0.36), (1, 0.36), (0.36, 0.36)]
        return [np.array([*corner, *[(-x, -y) for x, y in corner], corner[0]]) * 1.05]
    if shape == "ring":
        return [polar(1.05, turn), polar(0.58, turn[::-1])]
    if shape == "moon":
        outer, inner = np.linspace(0.76, 5.52, 33), np.linspace(5.15, 1.13, 17)  # a disc less another disc
        crescent = np.concatenate(
            [polar(1.05, outer + math.pi / 2), polar(0.8, inner + math.pi / 2) + np.array([0.42, 0])]
        )
        return [crescent + np.array([0.15, 0])]
    if shape == "flower":
        petals = np.linspace(0, 2 * math.pi, 61)
        return [polar(0.85 + 0.3 * np.cos(5 * petals), petals)]
    raise ValueError(f"expected one of the shapes of grammar.SHAPES, got {shape!r}; use one of those")


def pose(event: Event, time: float) -> tuple[float, float, float, float, float]:
    """x, y, radius (fractions of the width), angle (radians), opacity of the shape at `time` in [0, 1] of its event."""
    px, py = (SPOTS[min(int(3 * place), 2)] for place in event.layout[:2])
    radius, angle, opacity = RADII[event.size], 0.0, 1.0
    way = 0.4 + 0.4 * time  # late enough on its way that there is room for the marks behind it
    if event.motion == "left":
        px = 1 - way
    elif event.motion == "right":
        px = way
    elif event.motion == "rise":
        py = 1 - way
    elif event.motion == "fall":
        py = way
    elif event.motion == "orbit":
        phase = _phase(event, time)
        px, py = 0.5 + ORBIT * math.cos(phase), 0.5 + ORBIT * math.sin(phase)
    elif event.motion == "bounce":
        py = 0.65 - 0.3 * abs(math.sin(2.5 * math.pi * time + event.layout[1]))
    elif event.motion == "shake":
        return px + (0.03 if int(10 * time) % 2 else -0.03), py, radius, angle, opacity
    elif event.motion == "spin":
        angle = 2 * math.pi * round(STEPS * time) / STEPS
    elif event.motion == "grow":
        radius *= 0.8 + 0.1 * round(4 * time)
    elif event.motion == "shrink":
        radius *= 1.2 - 0.1 * round(4 * time)
    elif event.motion == "fade":
        opacity = 0.9 - 0.6 * time
    return round(STEPS * px) / STEPS, round(STEPS * py) / STEPS, radius, angle, opacity


def marks(event: Event, time: float) -> list[np.ndarray]:
    """Lines that tell the motion in a single picture, as comics draw them, each (points, 2) in fractions of the width.

    Without them a still of a shape on its way to the left cannot be told from one that stands.
    """
    x, y, radius, angle, _ = pose(event, time)
    centre = np.array([x, y])

    def arc(start, end, distance):
        turn = np.linspace(start, end, 12)
        return centre + distance * np.stack([np.cos(turn), np.sin(turn)], axis=1)

    if event.motion in ("left", "right", "rise", "fall"):
        ahead = np.array({"left": (-1, 0), "right": (1, 0), "rise": (0, -1), "fall": (0, 1)}[event.motion])
        starts = [centre - ahead * radius * 1.05 + ahead[::-1] * side for side in (-0.1, 0, 0.1)]
        return [np.stack([start, start - 0.3 * ahead]) for start in starts]
    if event.motion == "orbit":
        turn = _phase(event, time) - np.linspace(0.3, 3.6, 24)
        return [0.5 + ORBIT * np.stack([np.cos(turn), np.sin(turn)], axis=1)]
    if event.motion == "bounce":
        return [np.array([[x - 0.3, 0.93], [x + 0.3, 0.93]]), np.array([[x - 0.14, 0.985], [x + 0.14, 0.985]])]
    if event.motion == "shake":
        return [arc(side - 0.6, side + 0.6, radius + gap) for side in (0, math.pi) for gap in (0.06, 0.13)]
    if event.motion == "spin":
        return [arc(start + angle, start + angle + 2.2, radius * 1.15 + 0.07) for start in (0, math.pi)]
    if event.motion == "grow":
        rays = np.linspace(0, 2 * math.pi, 9)[:-1] + math.pi / 8
        return [np.stack([arc(ray, ray, radius * 1.1 + gap)[0] for gap in (0.05, 0.15)]) for ray in rays]
    if event.motion == "shrink":
        return [loops(event.shape)[0] * (radius * 1.15 + 0.08) + centre]
    if event.motion == "fade":
        dots = [(-0.12, 0.06), (0, 0.06), (0.12, 0.06), (-0.06, 0.15), (0.06, 0.15), (0, 0.24)]
        return [np.array([[x + dx - 0.012, y - radius - dy], [x + dx + 0.012, y - radius - dy]]) for dx, dy in dots]
    return []


def put(draw: ImageDraw.ImageDraw, shape: str, colour: str, look: str, place: tuple[float, float, float, float, float]):
    """Draw one shape at x, y, radius, angle and opacity: filled in `scenes`, a thick outline in `stories`."""
    x, y, radius, angle, opacity = place
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    scale = SIZE * OVER
    lines = [(loop @ rotation * radius + [x, y]) * scale for loop in loops(shape)]
    ink = COLOURS[look][colour]
    alpha = int(255 * opacity)
    # A ring is filled as one polygon: out along a seam to the inner loop and back.
    flat = [tuple(point) for point in np.concatenate([*lines, lines[0][-1:]]).tolist()]
    draw.polygon(flat, fill=(*ink, alpha if look == "scenes" else alpha // 3))
    if look == "scenes":
        ink = (150, 150, 155) if colour == "black" else tuple(channel // 2 for channel in ink)
    for line in lines:
        points = [tuple(point) for point in line.tolist()]
        draw.line([*points, points[0]], fill=(*ink, alpha), width=OVER if look == "scenes" else 2 * OVER, joint="curve")


def ground(kind: str, look: str, rng: np.random.Generator) -> Image.Image:
    """One background at the drawing size; every call draws its pattern anew."""
    scale = SIZE * OVER
    top, bottom, mark = (np.array(colour, dtype=float) for colour in GROUNDS[look][kind])
    light = rng.uniform(0.9, 1.08)
    ramp = np.linspace(0, 1, scale)[:, None, None]
    column = ((top * (1 - ramp) + bottom * ramp) * light).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(column, scale, axis=1))
    draw = ImageDraw.Draw(image, "RGBA")
    ink = (*mark.astype(int).tolist(), 150)
    spots = rng.random((24, 3)).tolist()
    if kind == "sky":
        for x, y, s in spots[:4]:
            for dx in (-0.08, 0, 0.08):
                box = [
                    (x + dx - 0.1) * scale,
                    (y - 0.05) * scale,
                    (x + dx + 0.1) * scale,
                    (y + 0.05 + 0.02 * s) * scale,
                ]
                draw.ellipse(box, fill=ink)
    elif kind == "grass":
        for x, y, s in spots:
            draw.line([x * scale, y * scale, (x + 0.03 * s) * scale, (y - 0.09) * scale], fill=ink, width=OVER)
    elif kind in ("sand", "night", "snow"):
        r = {"sand": 1.5, "night": 2, "snow": 4}[kind]
        for x, y, _ in spots:
            draw.ellipse([x * scale - r, y * scale - r, x * scale + r, y * scale + r], fill=ink)
    elif kind == "brick":
        step, shift = scale / 6, spots[0][0]
        for row in range(7):
            draw.line([0, row * step, scale, row * step], fill=ink, width=OVER)
            for column in range(-1, 5):
                x = (column + 0.5 * (row % 2) + shift) * 1.6 * step
                draw.line([x, row * step, x, (row + 1) * step], fill=ink, width=OVER)
    elif kind == "sea":
        x = np.arange(0, scale + 6, 6)
        for row in range(6):
            y = (row + 0.5 + 0.3 * spots[row][0]) * scale / 6 + 4 * np.sin(x * 0.12 + 6 * spots[row][1])
            draw.line(np.stack([x, y], 1).ravel().tolist(), fill=ink, width=OVER)
    elif kind == "tiles":
        step, (dx, dy, _) = scale / 5, spots[0]
        for i in range(-1, 6):
            for j in range(-1 + i % 2, 6, 2):
                draw.rectangle([(i + dx) * step, (j + dy) * step, (i + dx + 1) * step, (j + dy + 1) * step], fill=ink)
    return image


def frame(events: list[Event], time: float, look: str, backdrop: Image.Image, distracted: bool = True) -> Image.Image:
    """One 64 x 64 picture of one or two events, side by side, with marks of motion and the first one's distractor."""
    image = backdrop.copy()
    draw = ImageDraw.Draw(image, "RGBA")
    ink = DARK if sum(GROUNDS[look][events[0].background][1]) > 300 else LIGHT
    if distracted:
        colour, shape = events[0].distractor.split()
        x, y = (0.09 if place < 0.5 else 0.91 for place in events[0].layout[2:])
        put(draw, shape, colour, look, (x + 0.04 * (time - 0.5), y, 0.075, 0.0, 1.0))
    for event, aside in zip(events, (0,) if len(events) == 1 else (-0.25, 0.25), strict=True):
        for line in marks(event, time):
            points = (line + np.array([aside, 0])) * SIZE * OVER
            draw.line(points.ravel().tolist(), fill=ink, width=LINE, joint="curve")
        x, *rest = pose(event, time)
        put(draw, event.shape, event.colour, look, (x + aside, *rest))
    return image.reduce(OVER)


def compressed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture after JPEG of some quality, more often than not: a clip's frames are compressed too."""
    if rng.random() >= 0.6:
        return image
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(30, 85)))
    return Image.open(file)


def clip(events: list[Event], lengths: list[int], look: str, rng: np.random.Generator) -> np.ndarray:
    """Frames of the events one after another, (frames, height, width, 3) uint8; `lengths` are frames per event."""
    frames = []
    for event, length in zip(events, lengths, strict=True):
        backdrop = ground(event.background, look, rng)
        frames += [np.asarray(frame([event], i / (length - 1), look, backdrop)) for i in range(length)]
    return np.stack(frames)


def write_mp4(path: Path, frames: np.ndarray, crf: int) -> None:
    """Write frames (frames, height, width, 3) as H.264 at `FPS`; the same frames give the same bytes on one machine."""
    partial = path.with_suffix(".part")
    # With x264's macroblock tree the bytes vary from run to run, even on one thread.
    options = {"crf": str(crf), "preset": "medium", "mbtree": "0"}
    with av.open(str(partial), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    partial.replace(path)
