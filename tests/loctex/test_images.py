"""Pictures of strangers: sound pixels are read whatever stands around them, and kept to the bit."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageCms

from data_tools.pictures import browsable, extension, for_snapshot
from loctex.records import images
from loctex.records.images import decode_image, decode_into, simplified, without_metadata
from loctex.records.text import decode


def scene(height=60, width=90) -> np.ndarray:
    """(height, width, 3) uint8: smooth colors that differ at every corner."""
    y, x = np.mgrid[:height, :width]
    return np.stack((255 * x / width, 255 * y / height, 128 + 0 * x), axis=2).astype(np.uint8)


def encoded(image, form="JPEG", **options) -> bytes:
    content = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(content, form, **options)
    return content.getvalue()


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def with_chunk(png: bytes, made: bytes) -> bytes:
    return png[:33] + made + png[33:]  # after IHDR


BIG_TEXT = b"note\0\0" + zlib.compress(bytes(3 * 2**20))


@pytest.mark.parametrize(
    "made",
    [
        chunk(b"eXIf", b"no tiff at all"),
        chunk(b"eXIf", b"MM\0*\0\0\0\xff"),
        chunk(b"zTXt", BIG_TEXT),
        chunk(b"tEXt", b"a\0b", crc=7),
        chunk(b"iTXt", b"x", crc=7),
        chunk(b"iCCP", b"x\0\0nothing", crc=7),
    ],
)
def test_metadata_that_cannot_be_read_is_as_if_it_were_not_there(made):
    png = encoded(scene(), "PNG")
    broken = with_chunk(png, made)
    assert np.array_equal(decode_image(broken), scene())
    assert extension(broken) == ".png" and without_metadata(broken) == without_metadata(png)
    with pytest.raises(ValueError, match="damaged or incomplete"):
        decode_image(broken[:-40])  # pixels that are cut are still refused


def test_a_jpeg_with_a_broken_exif_is_read_upright():
    jpeg = encoded(scene())
    for content in (b"Exif\0\0nothing", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        broken = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]
        assert np.array_equal(decode_image(broken), decode_image(jpeg))


def test_tiff_is_read_with_8_and_16_bits_first_page_first_and_shown_as_png():
    image = scene()
    pages = [Image.fromarray(image), Image.fromarray(255 - image)]
    tiff = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert np.array_equal(decode_image(tiff), image)
    gray = np.arange(0, 65536, 512, dtype=np.uint16).reshape(8, 16)
    deep = encoded(Image.fromarray(gray), "TIFF", compression="tiff_deflate")
    assert np.array_equal(decode_image(deep)[..., 0], gray >> 8)
    assert extension(browsable(deep)) == ".png"
    assert np.array_equal(decode_image(browsable(deep)), decode_image(deep))
    assert browsable(encoded(image)) == encoded(image)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(image, "TIFF", exif=exif)
    assert np.array_equal(decode_image(turned), np.rot90(image, -1))
    with pytest.raises(ValueError, match="is a TIFF of 32 bits a pixel; save it with 8 or 16"):
        decode_image(encoded(Image.fromarray(gray.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("num_bits", [8, 10, 12, 14, 16])
def test_a_tiff_of_a_camera_of_fewer_bits_is_not_black_and_says_what_is_left_out(num_bits):
    gray = np.linspace(0, 2**num_bits - 1, 128).astype(np.uint16).reshape(8, 16)
    page = Image.fromarray(gray)
    tiff = encoded(page, "TIFF", save_all=True, append_images=[page, page])
    assert np.array_equal(decode_image(tiff)[..., 0], gray >> (num_bits - 8))
    assert simplified(tiff) == (
        f"only the first of its 3 pages, the upper 8 of the {num_bits} bits that its values use"
    )
    assert simplified(encoded(scene(), "TIFF")) == simplified(encoded(scene())) == ""


@pytest.mark.skipif(not images.HAS_AVIF, reason="Pillow was built without AVIF")
def test_avif_is_read_by_its_bytes_and_kept_as_jpeg_without_its_place():
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}
    avif = encoded(scene(), "AVIF", quality=95, exif=exif)
    assert images.begins_as_image(avif[:16])
    assert np.abs(decode_image(avif).astype(int) - scene()).mean() < 3
    kept = browsable(avif)
    assert extension(kept) == ".jpg" and b"Exif" not in kept
    assert np.abs(decode_image(kept).astype(int) - scene()).mean() < 4


@pytest.mark.skipif(images.HAS_HEIF, reason="the plugin is there")
def test_heic_without_its_plugin_names_it():
    heic = b"\0\0\0\x18ftypheic" + bytes(200)
    with pytest.raises(ValueError, match="is a HEIC photograph, as phones keep; pip install pil"):
        decode_image(heic)
    assert not images.begins_as_image(heic[:16])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"%PDF-1.7 ...", "is a PDF; save its pages as JPEG or PNG"),
        (b"\xef\xbb\xbf<svg xmlns=''/>", "is an SVG drawing; save it as JPEG or PNG"),
        (b"8BPS\0\1", "is a Photoshop file; save it as JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n", "is a JPEG XL image; save it as JPEG or PNG"),
        (b"\n<!DOCTYPE html><html>", "is a web page, not the picture on it; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
        (b"\0\0\0\x20ftypisom", "is a video; save single pictures of it"),
        (b"PK\x03\x04....", "is a zip archive; unpack it first"),
        (b"just words", "is not an image; the studio reads JPEG, PNG, WEBP, GIF, BMP, TIFF"),
    ],
)
def test_a_file_that_is_no_picture_says_its_kind_and_the_way_out(tmp_path, content, sentence):
    (tmp_path / "x.jpg").write_bytes(content)
    for source in (content, tmp_path / "x.jpg"):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            decode_image(source)


def phone_jpeg(image, **options) -> bytes:
    """As a phone writes it: a place, a maker, a profile, a comment, and a second picture."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 30.0), 3: "E", 4: (11.0, 34.0, 0.0)})
    exif[0x010F] = "Maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    comment = b"taken at home"
    first = encoded(image, exif=exif, icc_profile=profile, comment=comment, quality=80, **options)
    iptc = b"Photoshop 3.0\0" + b"8BIM home"
    first = first[:2] + b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc + first[2:]
    return first + encoded(image, exif=exif, comment=comment)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_small_upright_jpeg_is_kept_to_the_bit_without_its_place(mode):
    jpeg = phone_jpeg(Image.fromarray(scene()).convert(mode))
    image = decode_image(jpeg)
    assert Image.open(io.BytesIO(jpeg)).getexif().get_ifd(0x8825)[2] == (48.0, 8.0, 30.0)
    kept = for_snapshot(jpeg, image, 288, 90)
    assert np.array_equal(decode_image(kept), image)
    assert np.array_equal(simplejpeg.decode_jpeg(kept), simplejpeg.decode_jpeg(jpeg))
    bare = Image.open(io.BytesIO(kept))
    assert not bare.getexif() and "comment" not in bare.info and "photoshop" not in bare.info
    assert bare.info["icc_profile"]  # colors need it
    assert not any(word in kept for word in (b"Exif", b"Maker", b"home", b"8BIM"))
    assert kept.count(b"\xff\xd8\xff") == 1  # the second picture is gone
    assert for_snapshot(kept, image, 288, 90) == kept
    out = np.zeros((60, 60, 3), np.uint8)
    decode_into(kept, (0, 0, 1, 1), out)
    assert out.std() > 20


@pytest.mark.parametrize("case", ["progressive", "CMYK", "turned", "large", "PNG"])
def test_every_other_picture_is_made_anew(case):
    image = Image.fromarray(scene(400, 300) if case == "large" else scene())
    exif = Image.Exif()
    if case == "turned":
        exif[0x0112] = 6
    image = image.convert("CMYK") if case == "CMYK" else image
    form = "PNG" if case == "PNG" else "JPEG"
    options = {"progressive": True} if case == "progressive" else {"exif": exif}
    content = encoded(image, form, **options)
    seen = decode_image(content)
    made = for_snapshot(content, seen, 288, 90)
    assert not Image.open(io.BytesIO(made)).info.get("progressive")
    small = decode_image(made)
    assert min(small.shape[:2]) == min(288, min(seen.shape[:2]))
    if case != "large":
        assert np.abs(small.astype(int) - seen).mean() < 3
    assert made[:2] == b"\xff\xd8" and b"Exif" not in made


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_text_is_read_whatever_its_encoding(encoding):
    text = "K\xe4fer und Stra\xdfe, 12 St\xfcck"
    assert decode(text.encode(encoding)) == text
    assert decode(b"") == ""
