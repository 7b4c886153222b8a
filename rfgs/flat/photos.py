"""Reading the photographs that people have. Only Pillow here, so that a bad file is told before anything heavy is loaded."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from rfgs.errors import UserError

LARGEST_SIDE = 2048
"""Pixels; larger photographs are scaled down when read, since no model here sees more."""
MOST_PIXELS = 64_000_000
"""Of what is unpacked, which takes some 10 bytes a pixel until it is scaled down."""
MOST_JPEG_PIXELS = 120_000_000
"""Of a JPEG before it is unpacked at a smaller size: a progressive one is held whole, 6 bytes a pixel."""


def read_photo(path: str | Path) -> Image.Image:
    """The photograph as one sees it: 8-bit RGB, upright, on white where it is transparent, at most LARGEST_SIDE wide or high.

    Greyscale, palettes, CMYK and 16 bits a channel are understood; of an animation the first frame is taken.

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
            with Image.open(path) as image:
                size = image.size
                if image.width * image.height <= MOST_JPEG_PIXELS:
                    image.draft(
                        "RGB", (LARGEST_SIDE, LARGEST_SIDE)
                    )  # JPEG can be unpacked at a smaller size.
                if image.width * image.height > MOST_PIXELS:
                    raise UserError(
                        f"{path}: has {size[0]}x{size[1]} pixels; scale it down to {LARGEST_SIDE} pixels or less first"
                    )
                image.load()
                # Scaled down first, so that all that follows works on a small image.
                return _on_white(_scaled_down(ImageOps.exif_transpose(_eight_bits(image, path))))
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image that can be read; give a .png or .jpg") from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path}: has far too many pixels; scale it down to {LARGEST_SIDE} pixels or less first"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: may not be read; check its permissions") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:
        # Pillow's decoders raise any of these on damaged data.
        raise UserError(f"{path}: is damaged or cut off ({_one_line(error)}); give another copy") from error


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Greyscale of 16 bits as 8 bits, with what else belongs to the image (its orientation) kept."""
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
    exif = image.getexif()
    if exif:
        small.info["exif"] = exif.tobytes()
    return small


def _scaled_down(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest <= LARGEST_SIDE:
        return image
    image = image.convert("RGBA" if _is_transparent(image) else "RGB")
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
