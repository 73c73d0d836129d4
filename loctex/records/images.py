"""Pictures of strangers: decoded, turned, and refused with the way out."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import local

import cv2
import numpy as np
import simplejpeg
from PIL import Image, features

from loctex.records.file_names import HAS_HEIF

_scratch, _NONE = local(), np.empty(0, np.uint8)


def decode_into(data: bytes, box: Sequence[float], out: np.ndarray) -> None:
    """Decodes a JPEG and resizes its `box` (fractions) into `out`, (size, size, 3) uint8.

    Each thread decodes into memory of its own, again and again: fresh pages cost a third more.
    Colors are upsampled the fast way: 52 dB from the slow one, where JPEG itself loses to 43.
    """
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    if getattr(_scratch, "pixels", _NONE).size < height * width * 3:
        _scratch.pixels = np.empty(height * width * 3, np.uint8)
    image = simplejpeg.decode_jpeg(data, fastupsample=True, buffer=_scratch.pixels)
    x0, x1 = (round(x * width) for x in (box[0], box[2]))
    y0, y1 = (round(y * height) for y in (box[1], box[3]))
    resize_into(image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], out)


def resize_into(image: np.ndarray, out: np.ndarray) -> None:
    """Stretches `image` to `out`, both (h, w, 3) uint8, as training and prediction do.

    Where a pixel comes of less than 1.5 x 1.5 the nearest ones still hold nearly all of them: 36 dB
    from the antialiased result on photographs, in a fifth of the time that averaging takes.
    """
    factors = image.shape[0] / out.shape[0], image.shape[1] / out.shape[1]
    is_near = factors[0] * factors[1] < 1.5**2 and max(factors) < 2
    form = cv2.INTER_LINEAR if is_near else cv2.INTER_AREA
    cv2.resize(image, out.shape[1::-1], dst=out, interpolation=form)


SHOWN = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # what browsers show
HAS_AVIF = features.check("avif") is True  # as Pillow was built
FORMATS = (*SHOWN, "TIFF", *(("AVIF",) if HAS_AVIF else ()), *(("HEIF",) if HAS_HEIF else ()))
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_RESAVE = "save it as JPEG or PNG"
_OTHER_KINDS = {  # how files begin that people take for pictures, and the way out
    b"%PDF": "is a PDF; save its pages as JPEG or PNG",
    b"8BPS": f"is a Photoshop file; {_RESAVE}",
    b"\xff\x0a": f"is a JPEG XL image; {_RESAVE}",
    b"\0\0\0\x0cJXL ": f"is a JPEG XL image; {_RESAVE}",
    b"\0\0\0\x0cjP  ": f"is a JPEG 2000 image; {_RESAVE}",
    b"FUJIFILM": f"is a raw photograph; {_RESAVE}",
    b"<svg": f"is an SVG drawing; {_RESAVE}",
    b"<?xml": f"is XML, perhaps an SVG drawing; {_RESAVE}",
    b"<!DOC": "is a web page, not the picture on it; download it again",
    b"<html": "is a web page, not the picture on it; download it again",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"\x1aE\xdf\xa3": "is a video; save single pictures of it",
    b"version https://git-lfs": "is a pointer of Git LFS, not the picture; run git lfs pull",
}
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def begins_as_image(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of a format that decode_image reads."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return True
    if head.startswith((b"II*\0", b"MM\0*")):  # TIFF
        return True
    if head[4:8] == b"ftyp":
        return (HAS_AVIF and _is_avif(head)) or (HAS_HEIF and head[8:12] in _HEIF_BRANDS)
    is_bmp = head.startswith(b"BM") and head[6:10] == bytes(4)
    return is_bmp or head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _is_avif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")


def _other_kind(head: bytes) -> str:
    """What a file is that is no picture we read, and the way out."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    sentences = [why for mark, why in _OTHER_KINDS.items() if start.startswith(mark)]
    if sentences:
        return sentences[0]
    if head[4:8] == b"ftyp":
        if head[8:12] in _HEIF_BRANDS:
            return f"is a HEIC photograph, as phones keep; pip install pillow-heif, or {_RESAVE}"
        if _is_avif(head):
            return f"is an AVIF image, which this Pillow cannot read; update it, or {_RESAVE}"
        return "is a video; save single pictures of it"
    return f"is not an image; the studio reads {', '.join(FORMATS)}"


def simplified(data: bytes) -> str:
    """What decode_image leaves out of a sound TIFF, in words; "" of what it shows whole."""
    if not data.startswith((b"II*\0", b"MM\0*")):
        return ""
    image = open_image(data)
    num_pages = getattr(image, "n_frames", 1)
    notes = [f"only the first of its {num_pages} pages"] if num_pages > 1 else []
    if image.mode.startswith("I;16"):
        notes.append(f"the upper 8 of the {_num_bits(np.asarray(image))} bits that its values use")
    return ", ".join(notes)


def decode_image(
    source: bytes | Path, *, max_pixels: int = 100_000_000, at_least: int | None = None
) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF orientation says, transparency on white.

    at_least: so many pixels a side are enough, and a large JPEG is decoded at a half or less.
    Of a TIFF the first page; of 16 bits the upper 8 of those that its values use (12, say, of a
    microscope's): `simplified` says so. Metadata that cannot be read is as if it were not there.

    ValueError: no image, damaged, or by its header larger than max_pixels (never decoded).
    """
    if isinstance(source, Path):
        try:
            return decode_image(source.read_bytes(), max_pixels=max_pixels, at_least=at_least)
        except ValueError as error:
            raise ValueError(f"{source.name}: {error}") from error
    try:
        return _decode(source, max_pixels, at_least)
    except ValueError:
        # broken texts, profiles or thumbnails are no reason to refuse sound pixels
        bare = without_metadata(source)
        if bare == source:
            raise
        return _decode(bare, max_pixels, at_least)


def _decode(data: bytes, max_pixels: int, at_least: int | None) -> np.ndarray:
    image = open_image(data, max_pixels)
    if image.width * image.height > max_pixels:
        raise ValueError(f"{_too_large(max_pixels)}: {image.width} x {image.height} pixels")
    if at_least:
        image.draft(None, (at_least, at_least))
    try:
        image.load()
        turn = _TURNS.get(_orientation(image))  # of TIFF, load() has turned it
        return np.array(_rgb(image if turn is None else image.transpose(turn)))
    except _UnreadableKindError:
        raise
    except Exception as error:  # strangers' bytes: decoders raise whatever they like
        raise ValueError(f"is a damaged or incomplete {image.format} image ({error})") from error


def open_image(source: bytes | Path, max_pixels: int = 100_000_000) -> Image.Image:
    """Pillow's image of which the header is read; ValueError where it is none, or too large."""
    if HAS_HEIF:
        _register_heif()
    try:
        return Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        )
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(_too_large(max_pixels)) from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(_other_kind(_head(source))) from error
    except OSError as error:
        if isinstance(source, Path) and error.errno is not None:
            raise  # the file, not what is in it
        raise ValueError("is a damaged or incomplete image") from None
    except Exception as error:
        raise ValueError(f"is a damaged or incomplete image ({error})") from error


@cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _head(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source[:64]
    with open(source, "rb") as file:
        return file.read(64)


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF says; 1, upright, where it says nothing that can be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        return orientation if orientation in _TURNS else 1
    except Exception:  # strangers' EXIF
        return 1


@dataclass(frozen=True)
class Frame:
    """Width and height of a picture as it is stored, and the orientation that EXIF gives it."""

    stored: tuple[int, int]
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """As it is seen: width, height."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    @property
    def is_same_size_turned(self) -> bool:
        """Turned, and nothing in the numbers of pixels shows it."""
        return self.orientation != 1 and self.size == self.stored


def read_frame(path: Path) -> Frame:
    """The header of a picture. ValueError names the file that is no picture; OSError."""
    try:
        with open_image(path) as image:
            return Frame(image.size, _orientation(image))
    except ValueError:
        height, width = decode_image(path).shape[:2]  # its metadata is broken, or it says why
        return Frame((width, height), 1)


# --- metadata

_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_TABLES = (0xC4, 0xC8, 0xCC)  # between the markers of frames, and none of them
_SOS, _EOI, _COM = 0xDA, 0xD9, 0xFE
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}  # of PNG


def without_metadata(data: bytes) -> bytes:
    """A JPEG or PNG without EXIF, places, texts and thumbnails, to the bit the same pixels.

    Of a JPEG what its colors need stays: JFIF, the ICC profile, Adobe's mark. What follows its end
    goes: phones keep a second picture there, with its own EXIF. Other bytes are returned as they
    are, and so is what is not built as its format says.
    """
    if data.startswith(b"\xff\xd8"):
        return _bare_jpeg(data) or data
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _bare_png(data)
    return data


def jpeg_segments(data: bytes) -> list[tuple[int, bytes]] | None:
    """(marker, bytes) from the first after SOI to EOI, scans with their pixels; None if broken."""
    segments: list[tuple[int, bytes]] = []
    place = 2
    while (match := _NEXT_MARKER.match(data, place)) is not None:
        marker, start = match[1][0], match.end() - 2
        if marker == _EOI:
            return [*segments, (marker, b"\xff\xd9")]
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        place = start + 2 + length
        if length < 2 or place > len(data):
            return None
        if marker == _SOS:  # its pixels reach to the next marker
            following = _NEXT_MARKER.search(data, place)
            if following is None:
                return None
            place = following.start()
        segments.append((marker, data[start:place]))
    return None


def is_plain_jpeg(data: bytes) -> bool:
    """Baseline, upright, gray or of three colors: what each JPEG reader shows alike.

    Not so are progressive JPEGs, which take twice as long to read, and CMYK.
    """
    segments = jpeg_segments(data) if data.startswith(b"\xff\xd8") else None
    if segments is None:
        return False
    frames = [(marker, one) for marker, one in segments if 0xC0 <= marker <= 0xCF]
    frames = [(marker, one) for marker, one in frames if marker not in _TABLES]
    if len(frames) != 1 or frames[0][0] not in (0xC0, 0xC1) or len(frames[0][1]) < 10:
        return False
    precision, num_colors = frames[0][1][4], frames[0][1][9]
    if precision != 8 or num_colors not in (1, 3):
        return False
    try:
        return _orientation(open_image(data)) == 1
    except ValueError:
        return False


def _bare_jpeg(data: bytes) -> bytes | None:
    segments = jpeg_segments(data)
    if segments is None:
        return None
    return b"\xff\xd8" + b"".join(
        segment for marker, segment in segments if _is_needed(marker, segment)
    )


def _is_needed(marker: int, segment: bytes) -> bool:
    names = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
    if marker in names:
        return segment.startswith(names[marker], 4)
    return not (0xE0 <= marker <= 0xEF or marker == _COM)


def _bare_png(data: bytes) -> bytes:
    chunks, place = [data[:8]], 8
    while place + 12 <= len(data):
        kind = data[place + 4 : place + 8]
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if kind in _PIXEL_CHUNKS:
            chunks.append(data[place:end])
        if kind == b"IEND":
            break
        place = end
    return b"".join(chunks)


# --- pixels


def _too_large(max_pixels: int) -> str:
    return f"is larger than {max_pixels / 1e6:g} megapixels, scale it down"


class _UnreadableKindError(ValueError):
    """A sound image of a kind that has no colors to show."""


def _num_bits(values: np.ndarray) -> int:
    """8 to 16: how many bits of uint16 the largest value takes. Cameras of 10, 12 or 14 bits write
    theirs into 16, which would look black."""
    return max(8, int(values.max(initial=0)).bit_length())


def _rgb(image: Image.Image) -> Image.Image:
    if image.format == "TIFF" and image.mode in ("F", "I"):
        raise _UnreadableKindError("is a TIFF of 32 bits a pixel; save it with 8 or 16")
    if image.mode.startswith("I;16"):  # convert() would clip, not scale
        values = np.asarray(image)
        num_bits = _num_bits(values) if image.format == "TIFF" else 16
        image = Image.fromarray((values >> (num_bits - 8)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
