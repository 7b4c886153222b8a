"""Reading the photographs that people have. Only Pillow here, so that a bad file is told before anything heavy is loaded."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from rfgs.errors import UserError

LARGEST_SIDE = 2048
"""Pixels; larger photographs are scaled down when read, since no model here sees more."""
MOST_PIXELS = 64_000_000
"""Of what is unpacked, which takes some 10 bytes a pixel until it is scaled down."""
MOST_JPEG_PIXELS = 120_000_000
"""Of a JPEG before it is unpacked at a smaller size: a progressive one is held whole, 6 bytes a pixel."""

LARGEST_PROFILE = 4 << 20
"""Bytes of an ICC profile; those of printers have a megabyte or two."""
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM", "TGA")
"""What photographs and pictures come in. Others of Pillow's start programs or are documents."""


def read_photo(path: str | Path) -> Image.Image:
    """The photograph as one sees it: 8-bit RGB, upright, on white where it is transparent, at most LARGEST_SIDE wide or high.

    Greyscale, palettes, CMYK and 16 bits a channel are understood, and colors come out as sRGB by the image's own profile; of an
    animation the first frame is taken.

    Raises:
        UserError: no such file, a folder, empty, broken, not an image, too large, or of values without a known range.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give an image file, such as a .png or .jpg")
    if not path.exists():
        raise UserError(f"{path}: no such file; give an image file, such as a .png or .jpg")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: is empty; give another image file")
        with warnings.catch_warnings():
            # Pillow warns of large images, and of damage that does not matter here, in lines of its own.
            warnings.simplefilter("ignore")
            try:
                return _read(path, path)
            except ValueError as error:
                texts = None if isinstance(error, UserError) else _without_texts(path)
                if texts is None:
                    raise
                return _read(path, texts)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image that can be read; give a .png or .jpg") from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path}: has far too many pixels; scale it down to {LARGEST_SIDE} pixels or less first"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read; check its permissions") from error
    except MemoryError as error:
        raise UserError(f"{path}: takes more memory than there is; scale it down first") from error
    except Exception as error:
        # Pillow's decoders raise whatever they like on damaged data.
        raise UserError(f"{path}: is damaged or cut off ({_one_line(error)}); give another copy") from error


def _read(path: Path, source: Path | BytesIO) -> Image.Image:
    """The photograph of `path`, from there or from its bytes."""
    Image.init()
    with Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
        size, profile = image.size, image.info.get("icc_profile")
        if image.width * image.height <= MOST_JPEG_PIXELS:
            image.draft("RGB", (LARGEST_SIDE, LARGEST_SIDE))  # JPEG can be unpacked at a smaller size.
        if image.width * image.height > MOST_PIXELS:
            raise UserError(
                f"{path}: has {size[0]}x{size[1]} pixels; scale it down to {LARGEST_SIDE} pixels or less first"
            )
        image.load()
        turn = _TURNS.get(_orientation(image) or 1)
        # Scaled down first, so that all that follows works on a small image.
        small = _scaled_down(_eight_bits(image, path))
        small = small if turn is None else small.transpose(turn)
        return _on_white(_in_srgb(small, profile))


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What stands a picture upright, by the orientation in its EXIF."""


def _orientation(image: Image.Image) -> int | None:
    """By the EXIF, of which all else may be broken; None where it does not say."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Damaged EXIF raises whatever it likes, and the pixels are whole.
        return None
    return found if isinstance(found, int) else None


def _without_texts(path: Path) -> BytesIO | None:
    """A PNG without its texts, of which Pillow takes only short ones; None if that is not it."""
    data = path.read_bytes()
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    kept, position, left_out = [data[:8]], 8, False
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] in (b"tEXt", b"zTXt", b"iTXt"):
            left_out = True
        else:
            kept.append(data[position:end])
        position = end
    return BytesIO(b"".join(kept)) if left_out else None


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB, if it comes with a profile of other colors that fits it."""
    if not profile or len(profile) > LARGEST_PROFILE:
        return image
    try:
        from PIL import ImageCms

        own, srgb = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
        modes, base = _SPACES[own.profile.xcolor_space.strip()]
        if image.mode not in modes:
            return image
        alpha = image.convert("RGBA").getchannel("A") if _is_transparent(image) else None
        converted = ImageCms.profileToProfile(image.convert(base), own, srgb, outputMode="RGB")
    except Exception:  # A profile that is damaged, or of a kind that nobody reads, says nothing.
        return image
    if converted is None:
        return image
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


_SPACES = {
    "RGB": (("RGB", "RGBA", "RGBX", "P", "PA"), "RGB"),
    "GRAY": (("L", "LA", "1"), "L"),
    "CMYK": (("CMYK",), "CMYK"),
}
"""Spaces of colors that a profile may be of: the modes of images that have it, and the mode that it is converted from."""


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Greyscale of 16 bits as 8 bits, with what else belongs to the image (which value is transparent) kept."""
    if image.mode == "F":
        raise UserError(f"{path}: holds floating-point pixels of unknown range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    grey = image.convert("F")
    lowest, highest = grey.getextrema()
    if not 0 <= float(str(lowest)) <= float(str(highest)) <= 65535:
        raise UserError(f"{path}: holds pixels from {lowest} to {highest}; save it with 8 or 16 bits")
    small = grey.point(lambda value: value * (255 / 65535) + 0.5).convert("L")
    small.info = image.info
    return small


def _scaled_down(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest <= LARGEST_SIDE:
        return image
    if _is_transparent(image):
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "L", "CMYK"):  # Which a profile may be of.
        image = image.convert("RGB")
    size = [max(1, round(side * LARGEST_SIDE / longest)) for side in image.size]
    # Pillow multiplies by the opacity while it scales, so that hidden colors do not bleed out.
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _is_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info


def _on_white(image: Image.Image) -> Image.Image:
    if not _is_transparent(image):
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def _one_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
