"""Pictures, arrays and files, side by side with Keras."""

from __future__ import annotations

import io
import sys

import keras
import numpy as np
import pytest
import torch

import hornbeam
from hornbeam.utils import array_to_img, img_to_array, load_img, save_img
from signatures import assert_same_signatures

smart_resize = hornbeam.preprocessing.image.smart_resize
pytest.importorskip("PIL.Image")


@pytest.fixture
def path(tmp_path):
    rng = np.random.RandomState(0)
    save_img(tmp_path / "x.png", rng.randint(0, 256, (9, 14, 3)), scale=False)
    return tmp_path / "x.png"


def test_signatures_are_those_of_keras():
    assert_same_signatures(hornbeam.preprocessing.image, keras.preprocessing.image)
    assert_same_signatures(hornbeam.preprocessing.sequence, keras.preprocessing.sequence)
    assert_same_signatures(hornbeam.preprocessing, keras.preprocessing)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"color_mode": "grayscale"},
        {"color_mode": "rgba"},
        {"target_size": (5, 6)},
        {"target_size": (5, 6), "interpolation": "bilinear"},
        {"target_size": (30, 6), "interpolation": "lanczos", "keep_aspect_ratio": True},
        {"target_size": (5, 11), "interpolation": "box", "keep_aspect_ratio": True},
        {"target_size": (9, 14)},
    ],
)
def test_load_img(path, arguments):
    ours, theirs = load_img(path, **arguments), keras.utils.load_img(path, **arguments)
    assert ours.mode == theirs.mode
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_load_img_takes_bytes_and_names_its_mistakes(path, tmp_path):
    assert load_img(io.BytesIO(path.read_bytes())).size == (14, 9)
    with pytest.raises(TypeError, match=r"`path` must be a path or an io.BytesIO. Received: 3 \(int\)"):
        load_img(3)
    with pytest.raises(ValueError, match=r"`color_mode` must be .* Received: color_mode='bgr'"):
        load_img(path, color_mode="bgr")
    with pytest.raises(ValueError, match=r"`interpolation` must be one of nearest.*Did you mean 'bicubic'"):
        load_img(path, interpolation="bicubc")
    with pytest.raises(ValueError, match=r"`target_size` must be two positive integers"):
        load_img(path, target_size=5)
    with pytest.raises(FileNotFoundError, match=r"none.png"):
        load_img(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match=r"text.png' cannot be read as an image"):
        load_img(tmp_path / "text.png")


@pytest.mark.parametrize("data_format", [None, "channels_first"])
@pytest.mark.parametrize("mode", ["grayscale", "rgb", "rgba"])
def test_img_to_array(path, mode, data_format):
    ours = img_to_array(load_img(path, mode), data_format)
    theirs = keras.utils.img_to_array(keras.utils.load_img(path, mode), data_format)
    assert ours.dtype == theirs.dtype
    assert np.array_equal(ours, theirs)


def test_img_to_array_of_arrays():
    for shape, data_format in (((3, 4), None), ((3, 4), "channels_first"), ((2, 3, 4), "channels_first")):
        x = np.random.rand(*shape)
        assert np.array_equal(img_to_array(x, data_format), keras.utils.img_to_array(x, data_format))
    assert img_to_array(np.ones((3, 4)), dtype="uint8").dtype == np.uint8
    with pytest.raises(ValueError, match=r"an array of 2 or 3 axes. Received: ndarray of shape \(1, 2, 3, 4\)"):
        img_to_array(np.ones((1, 2, 3, 4)))
    with pytest.raises(ValueError, match="data_format must be"):
        img_to_array(np.ones((3, 4)), "channels_middle")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scale", [True, False])
def test_array_to_img(channels, scale):
    x = np.random.RandomState(1).rand(4, 5, channels) * 200 + 10
    ours, theirs = array_to_img(x, scale=scale), keras.utils.array_to_img(x, scale=scale)
    assert ours.mode == theirs.mode
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    first = array_to_img(torch.tensor(x.transpose(2, 0, 1)), "channels_first", scale=scale)
    assert np.array_equal(np.asarray(first), np.asarray(ours))


def test_array_to_img_of_odd_values():
    assert np.asarray(array_to_img(np.full((2, 2, 1), 300.0), scale=False)).max() == 300
    assert np.asarray(array_to_img(np.full((2, 2, 3), 7.0))).max() == 0
    with pytest.raises(ValueError, match=r"1, 3 or 4 channels. Received 2, data_format='channels_last'"):
        array_to_img(np.ones((3, 4, 2)))
    with pytest.raises(ValueError, match=r"an array of 3 axes. Received: ndarray of shape \(3, 4\)"):
        array_to_img(np.ones((3, 4)))


def test_save_img(tmp_path):
    x = np.random.RandomState(2).randint(0, 256, (6, 7, 4))
    save_img(str(tmp_path / "x.png"), x, scale=False)
    assert np.array_equal(img_to_array(load_img(tmp_path / "x.png", "rgba")), x)
    with pytest.warns(UserWarning, match="JPEG files hold no transparency"):
        save_img(tmp_path / "x.jpg", x)
    assert load_img(tmp_path / "x.jpg").size == (7, 6)
    save_img(tmp_path / "plain", x[..., :3], file_format="jpg", quality=30)
    assert load_img(tmp_path / "plain").size == (7, 6)


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((4, 9, 3), {}),
        ((2, 9, 4, 3), {}),
        ((3, 9, 4), {"data_format": "channels_first"}),
        ((4, 9, 3), {"interpolation": "nearest"}),
    ],
)
def test_smart_resize(shape, arguments):
    x = np.random.RandomState(3).rand(*shape).astype("float32")
    ours, theirs = smart_resize(x, (3, 5), **arguments), keras.preprocessing.image.smart_resize(x, (3, 5), **arguments)
    assert isinstance(ours, np.ndarray)
    assert ours == pytest.approx(np.asarray(theirs), abs=1e-6)
    assert torch.equal(smart_resize(torch.tensor(x), (3, 5), **arguments), torch.tensor(ours))


def test_smart_resize_keeps_the_dtype_and_names_its_mistakes():
    assert smart_resize(np.ones((4, 5, 3), "uint8"), (2, 2)).dtype == np.uint8
    with pytest.raises(ValueError, match=r"an image of 3 axes or a batch of 4"):
        smart_resize(np.ones((4, 5)), (2, 2))
    with pytest.raises(ValueError, match=r"`size` must be two positive integers"):
        smart_resize(np.ones((4, 5, 3)), 2)
    with pytest.raises(TypeError, match="does not know: antialias"):
        smart_resize(np.ones((4, 5, 3)), (2, 2), antialias=True)


def test_without_pillow_the_message_says_how_to_install_it(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"Reading and writing images needs the package 'pillow'.*pip install pillow"):
        load_img(path)
