"""Datasets of image, text and audio files. The numbers were read off Keras 3.15.1 on TensorFlow."""

from __future__ import annotations

import os
import sys
import wave

import numpy as np
import pytest
import torch

import hornbeam as keras
from hornbeam.utils import dataset_files, dataset_resize
from hornbeam.utils.audio_dataset import read_wav

image_dataset = keras.utils.image_dataset_from_directory
text_dataset = keras.utils.text_dataset_from_directory
audio_dataset = keras.utils.audio_dataset_from_directory


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def texts(tmp_path):
    """Two classes of 7 and 8 texts, each the name of its file."""
    for kind, count in (("bad", 7), ("good", 8)):
        for i in range(count):
            write(tmp_path / kind / f"{i}.txt", f"{kind}{i}")
    return tmp_path


@pytest.fixture
def pictures(tmp_path):
    """Three classes of 4 pictures of different sizes, in four formats; the red channel tells the class, the green the number."""
    pillow = pytest.importorskip("PIL.Image")
    for label, kind in enumerate(("cats", "dogs", "eels")):
        (tmp_path / kind).mkdir()
        for i, ending in enumerate(("png", "bmp", "gif", "png")):
            picture = np.full((5 + i, 9 - i, 3), (label * 51, i * 51, 0), np.uint8)
            pillow.fromarray(picture).save(tmp_path / kind / f"{i}.{ending}")
    return tmp_path


def read(dataset):
    return [v for texts, _ in dataset for v in texts.tolist()]


class TestFiles:
    def test_order_classes_and_names(self, texts):
        dataset = text_dataset(texts, shuffle=False, batch_size=4, verbose=False)
        assert dataset.class_names == ["bad", "good"]
        assert [os.path.relpath(p, texts) for p in dataset.file_paths[5:8]] == ["bad/5.txt", "bad/6.txt", "good/0.txt"]
        batches = list(dataset)
        assert len(dataset) == len(batches) == 4
        assert batches[1][0].tolist() == ["bad4", "bad5", "bad6", "good0"]
        assert batches[1][1].tolist() == [0, 0, 0, 1]
        assert batches[1][1].dtype is torch.int32

    def test_what_is_looked_at(self, tmp_path):
        for path in ("b/z/2.txt", "b/10.txt", "b/9.TXT", "a/x.txt", "a/y.md", ".hid/h.txt", "top.txt", "b/.dot.txt", "b/z/1.txt"):
            write(tmp_path / path, path)
        (tmp_path / "empty").mkdir()
        dataset = text_dataset(tmp_path, shuffle=False, verbose=False)
        assert dataset.class_names == ["a", "b", "empty"]
        assert read(dataset) == ["a/x.txt", "b/.dot.txt", "b/10.txt", "b/9.TXT", "b/z/1.txt", "b/z/2.txt"]
        every = text_dataset(tmp_path, labels=None, shuffle=False, verbose=False)
        assert next(iter(every)).tolist() == ["top.txt", ".hid/h.txt", *read(dataset)]
        assert every.class_names is None

    def test_links(self, tmp_path):
        write(tmp_path / "there" / "1.txt", "one")
        (tmp_path / "data" / "a").mkdir(parents=True)
        (tmp_path / "data" / "a" / "linked").symlink_to(tmp_path / "there")
        (tmp_path / "there" / "round").symlink_to(tmp_path / "there")
        assert read(text_dataset(tmp_path / "data", follow_links=True, verbose=False)) == ["one"]
        with pytest.raises(ValueError, match="there are no texts"):
            text_dataset(tmp_path / "data", verbose=False)

    def test_class_names_choose_and_order(self, texts):
        dataset = text_dataset(texts, class_names=["good", "bad"], shuffle=False, verbose=False)
        ((batch, labels),) = dataset
        assert (batch[0], labels[0].item()) == ("good0", 0)
        one = text_dataset(texts, class_names=["good"], verbose=False)
        assert one.class_names == ["good"]
        assert len(one.file_paths) == 8

    def test_label_modes(self, texts):
        labels = {
            mode: next(iter(text_dataset(texts, label_mode=mode, shuffle=False, verbose=False)))[1]
            for mode in ("int", "binary", "categorical")
        }
        assert labels["binary"].shape == (15, 1)
        assert labels["binary"].dtype is torch.float32
        assert labels["binary"][6:8].tolist() == [[0], [1]]
        assert labels["categorical"][6:8].tolist() == [[1, 0], [0, 1]]
        assert labels["categorical"].dtype is torch.float32
        without = text_dataset(texts, label_mode=None, verbose=False)
        assert next(iter(without)).shape == (15,)
        assert without.class_names is None

    def test_labels_from_a_list(self, texts):
        dataset = text_dataset(texts, labels=np.arange(15) % 3 + 3, shuffle=False, verbose=False)
        assert dataset.class_names == ["3", "4", "5"]
        assert next(iter(dataset))[1].tolist() == [3, 4, 5] * 5
        shuffled = text_dataset(texts, labels=list(range(15)), seed=1, verbose=False)
        pairs = {text: label for batch, labels in shuffled for text, label in zip(batch, labels.tolist(), strict=True)}
        assert pairs == {f"bad{i}": i for i in range(7)} | {f"good{i}": 7 + i for i in range(8)}

    def test_lines_that_are_printed(self, texts, capsys):
        text_dataset(texts, validation_split=0.2, subset="both", seed=1)
        assert capsys.readouterr().out.splitlines() == [
            "Found 15 files belonging to 2 classes.", "Using 12 files for training.", "Using 3 files for validation."
        ]  # fmt: skip
        text_dataset(texts, labels=None)
        assert capsys.readouterr().out == "Found 15 files.\n"
        text_dataset(texts, verbose=False)
        assert capsys.readouterr().out == ""


class TestOrder:
    def test_split_is_that_of_keras(self, texts):
        """Keras shuffles the sorted paths by NumPy's RandomState(seed) and keeps the last ones for validation."""
        expected = ["good/1.txt", "good/5.txt", "good/6.txt", "good/0.txt"]
        validation = text_dataset(texts, validation_split=0.3, subset="validation", seed=1337, verbose=False)
        found = [os.path.relpath(p, texts) for p in validation.file_paths]
        assert found == expected

    def test_subsets_are_disjoint_and_complete(self, texts):
        def make(subset):
            return text_dataset(texts, validation_split=0.3, subset=subset, seed=3, verbose=False, batch_size=4)

        training, validation = make("training"), make("validation")
        assert len(training.file_paths) == 11
        assert not set(training.file_paths) & set(validation.file_paths)
        both = make("both")
        assert [d.file_paths for d in both] == [training.file_paths, validation.file_paths]
        assert [read(d) for d in both] == [read(training), read(validation)]

    def test_each_pass_has_its_own_order_and_the_right_labels(self, texts):
        dataset, again = (text_dataset(texts, seed=7, batch_size=4, verbose=False) for _ in range(2))
        passes = [read(dataset) for _ in range(3)]
        assert len({tuple(p) for p in passes}) == 3
        assert passes == [read(again) for _ in range(3)]
        assert all(t.startswith("good") == bool(y) for b, labels in dataset for t, y in zip(b, labels, strict=True))

    def test_the_number_of_threads_changes_nothing(self, pictures, monkeypatch):
        found = []
        for threads in (1, 3, 8):
            monkeypatch.setattr(dataset_files, "reader_threads", lambda threads=threads: threads)
            dataset = image_dataset(pictures, image_size=(6, 7), seed=2, batch_size=5, verbose=False)
            found.append([(x, y) for _ in range(2) for x, y in dataset])
        for other in found[1:]:
            assert all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(found[0], other, strict=True))

    def test_skipped_files_are_not_read(self, texts):
        dataset = text_dataset(texts, shuffle=False, batch_size=5, verbose=False)
        for path in dataset.file_paths[:5]:
            os.remove(path)
        assert read(dataset.skip(1))[0] == "bad5"


class TestImages:
    def test_batches(self, pictures):
        dataset = image_dataset(pictures, image_size=(6, 7), shuffle=False, batch_size=5, verbose=False)
        images, labels = next(iter(dataset))
        assert images.shape == (5, 6, 7, 3)
        assert images.dtype is torch.float32
        assert labels.tolist() == [0, 0, 0, 0, 1]
        assert images[:, 2, 3].tolist() == [[0, 0, 0], [0, 51, 0], [0, 102, 0], [0, 153, 0], [51, 0, 0]]
        assert next(iter(image_dataset(pictures, image_size=6, batch_size=None, verbose=False)))[0].shape == (6, 6, 3)

    @pytest.mark.parametrize(("mode", "channels"), [("grayscale", 1), ("rgb", 3), ("rgba", 4)])
    def test_color_modes_and_layouts(self, pictures, mode, channels):
        last = image_dataset(pictures, color_mode=mode, image_size=(6, 7), shuffle=False, verbose=False)
        first = image_dataset(
            pictures, color_mode=mode, image_size=(6, 7), shuffle=False, data_format="channels_first", verbose=False
        )
        x, y = next(iter(last))[0], next(iter(first))[0]
        assert x.shape == (12, 6, 7, channels)
        assert y.shape == (12, channels, 6, 7)
        assert torch.equal(x, y.permute(0, 2, 3, 1))

    def test_16_bit_pictures_are_scaled_not_cut(self, tmp_path):
        pillow = pytest.importorskip("PIL.Image")
        (tmp_path / "a").mkdir()
        pillow.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "a" / "1.png")
        images, _ = next(iter(image_dataset(tmp_path, image_size=(4, 4), verbose=False)))
        assert images.unique().tolist() == [128]
        assert np.asarray(keras.utils.load_img(tmp_path / "a" / "1.png", color_mode="grayscale")).max() == 0x8000

    def test_aspect_ratio(self, tmp_path):
        pillow = pytest.importorskip("PIL.Image")
        (tmp_path / "a").mkdir()
        pillow.fromarray(np.repeat(np.arange(10, dtype=np.uint8)[None, :, None] * 20, 5, 0).repeat(3, 2)).save(
            tmp_path / "a/1.png"
        )

        def row(**kwargs):
            images, _ = next(iter(image_dataset(tmp_path, image_size=(4, 4), verbose=False, **kwargs)))
            return images[0, :, :, 0]

        assert row()[0].tolist() == [15, 65, 115, 165]
        assert row(crop_to_aspect_ratio=True)[0].tolist() == [42.5, 67.5, 92.5, 117.5]
        assert row(pad_to_aspect_ratio=True).tolist() == [[0] * 4, [15, 65, 115, 165], [15, 65, 115, 165], [0] * 4]

    def test_broken_files_are_named(self, pictures):
        (pictures / "cats" / "0.png").write_bytes(b"no picture")
        dataset = image_dataset(pictures, shuffle=False, verbose=False)
        with pytest.raises(ValueError, match=r"cats/0.png' cannot be read as an image.*Repair or remove"):
            next(iter(dataset))
        data = (pictures / "dogs" / "0.png").read_bytes()
        (pictures / "cats" / "0.png").write_bytes(data[:45])
        with pytest.raises(ValueError, match=r"cats/0.png' cannot be read as an image"):
            next(iter(dataset))

    def test_without_pillow_the_message_says_how_to_install_it(self, texts, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL.Image", None)
        with pytest.raises(ImportError, match=r"pip install pillow  \(or: pip install 'hornbeam\[image\]'\)"):
            image_dataset(texts)

    def test_fit_learns_from_it(self, pictures):
        keras.utils.set_random_seed(0)
        training, validation = image_dataset(
            pictures, image_size=(6, 6), batch_size=4, validation_split=0.25, subset="both", seed=1, verbose=False
        )
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(1e-5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        history = model.fit(training.cache().prefetch(-1), validation_data=validation, epochs=8, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        assert model.predict(validation, verbose=0).shape == (3, 3)


ROW = np.array([0.0, 10, 80, 30, 200])
TENSORFLOW_ROWS = {  # by tf.image.resize, which Keras calls: to 3 and to 8 pixels
    "bilinear": ([3.3333, 80.0, 143.3333], [0.0, 4.375, 14.375, 58.125, 64.375, 33.125, 125.625, 200.0]),
    "nearest": ([0.0, 80.0, 200.0], [0.0, 0.0, 10.0, 80.0, 80.0, 30.0, 200.0, 200.0]),
    "bicubic": ([0.3448, 80.0, 151.4419], [-0.7196, 0.4236, 12.9468, 64.9731, 65.8521, 27.3022, 130.3676, 212.2325]),
    "area": ([4.0, 56.0, 132.0], [0.0, 4.0, 10.0, 66.0, 70.0, 30.0, 132.0, 200.0]),
    "lanczos3": ([-2.9532, 80.0, 149.6301], [1.1628, -3.5215, 14.2505, 73.113, 59.187, 25.0067, 129.6019, 218.9285]),
    "lanczos5": ([-8.8503, 80.0, 147.7637], [4.8164, -10.6629, 16.5953, 82.6133, 51.7221, 24.0005, 128.5372, 222.8412]),
    "gaussian": ([3.3924, 67.2191, 142.3285], [0.6009, 4.3782, 18.6854, 56.8358, 62.5744, 50.7998, 125.57, 189.7852]),
    "mitchellcubic": ([1.5936, 73.3333, 145.737], [-0.1407, 2.0635, 16.1678, 60.6258, 63.5664, 39.3124, 127.5432, 202.3912]),
}


class TestResizing:
    @pytest.mark.parametrize("method", dataset_resize.METHODS)
    def test_constant_images_stay_constant(self, method):
        image = np.full((7, 5, 2), 3.0)
        for size in ((3, 9), (7, 5), (14, 1)):
            assert dataset_resize.resize(image, size, method) == pytest.approx(np.full((*size, 2), 3.0), rel=1e-6)

    @pytest.mark.parametrize("method", dataset_resize.METHODS)
    def test_values_are_those_of_tensorflow(self, method):
        image = np.repeat(ROW[None, :, None], 2, 0)
        for expected in TENSORFLOW_ROWS[method]:
            found = dataset_resize.resize(image, (2, len(expected)), method)
            assert found[1, :, 0] == pytest.approx(expected, abs=0.1)  # TensorFlow reads some kernels from a table

    def test_bilinear_is_torch_s(self):
        image = np.random.RandomState(0).randint(0, 256, (13, 17, 3)).astype("uint8")
        for size in ((6, 30), (20, 5)):
            expected = torch.nn.functional.interpolate(torch.tensor(image).permute(2, 0, 1)[None].float(), size, mode="bilinear")
            found = dataset_resize.resize(image, size, "bilinear")
            assert found == pytest.approx(expected[0].permute(1, 2, 0).numpy(), abs=1e-3)


class TestTexts:
    def test_texts_are_strings_cut_by_characters(self, tmp_path):
        write(tmp_path / "a" / "1.txt", "ünïcode\r\ntext")
        (tmp_path / "a" / "2.txt").write_bytes(b"caf\xe9")
        batch, _ = next(iter(text_dataset(tmp_path, shuffle=False, verbose=False)))
        assert batch.tolist() == ["ünïcode\r\ntext", "caf�"]
        assert isinstance(batch.numpy()[0], str)
        batch, _ = next(iter(text_dataset(tmp_path, shuffle=False, max_length=3, verbose=False)))
        assert batch.tolist() == ["ünï", "caf"]

    def test_map_turns_them_into_numbers(self, texts):
        lengths = text_dataset(texts, verbose=False).map(lambda x, y: (torch.tensor([len(t) for t in x]), y))
        assert sorted(next(iter(lengths))[0].tolist()) == [4] * 7 + [5] * 8


def save_wav(path, samples, width=2, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        data = samples.astype("<i4").tobytes()
        if width == 1:
            file.writeframes((samples + 128).astype(np.uint8).tobytes())
        elif width == 3:
            file.writeframes(b"".join(data[i : i + 3] for i in range(0, len(data), 4)))
        else:
            file.writeframes(samples.astype(f"<i{width}").tobytes())


@pytest.fixture
def sounds(tmp_path):
    for kind, start in (("high", 0), ("low", 3)):
        for i in range(3):
            save_wav(tmp_path / kind / f"{i}.wav", np.full((10 + start + i, 1), 8192))
    return tmp_path


class TestSounds:
    def test_batches_are_padded_to_their_longest(self, sounds):
        batches = list(audio_dataset(sounds, shuffle=False, batch_size=4, verbose=False))
        assert [b[0].shape for b in batches] == [(4, 13, 1), (2, 15, 1)]
        assert batches[0][0][0, :, 0].tolist() == [0.25] * 10 + [0] * 3
        assert batches[1][1].tolist() == [1, 1]

    def test_one_length_for_all(self, sounds):
        batch, _ = next(iter(audio_dataset(sounds, shuffle=False, output_sequence_length=12, verbose=False)))
        assert batch.shape == (6, 12, 1)
        assert batch[0, :, 0].tolist() == [0.25] * 10 + [0] * 2

    def test_ragged(self, sounds):
        batch, labels = next(iter(audio_dataset(sounds, shuffle=False, ragged=True, verbose=False)))
        assert [len(sound) for sound in batch.unbind()] == [10, 11, 12, 13, 14, 15]
        assert labels.tolist() == [0, 0, 0, 1, 1, 1]
        alone = audio_dataset(sounds, label_mode=None, shuffle=False, ragged=True, verbose=False)
        assert [len(s) for s in alone.unbatch()] == [10, 11, 12, 13, 14, 15]

    @pytest.mark.parametrize("width", [1, 2, 3, 4])
    def test_widths_and_channels(self, tmp_path, width):
        full = 2 ** (8 * width - 1)
        save_wav(tmp_path / "x.wav", np.array([[-full, full // 2], [0, full // 4]], np.int64), width)
        samples, rate = read_wav(str(tmp_path / "x.wav"))
        assert samples.tolist() == [[-1, 0.5], [0, 0.25]]
        assert samples.dtype == np.float32
        assert rate == 8000

    def test_floats_are_read_by_scipy(self, tmp_path):
        wavfile = pytest.importorskip("scipy.io.wavfile")
        wavfile.write(tmp_path / "x.wav", 44100, np.array([[0.5, -0.25]], np.float32))
        samples, rate = read_wav(str(tmp_path / "x.wav"))
        assert (samples.tolist(), rate) == ([[0.5, -0.25]], 44100)
        (tmp_path / "bad.wav").write_bytes(b"no sound at all")
        with pytest.raises(ValueError, match=r"bad.wav' cannot be read as a WAV file"):
            read_wav(str(tmp_path / "bad.wav"))

    def test_resampling(self, tmp_path):
        pytest.importorskip("scipy.signal")
        tone = np.sin(np.arange(8000) * 2 * np.pi * 200 / 8000) * 20000
        save_wav(tmp_path / "a" / "1.wav", tone[:, None])
        batch, _ = next(iter(audio_dataset(tmp_path, sampling_rate=4000, verbose=False)))
        assert batch.shape == (1, 4000, 1)
        expected = np.sin(np.arange(4000) * 2 * np.pi * 200 / 4000) * 20000 / 32768
        assert batch[0, 100:-100, 0].numpy() == pytest.approx(expected[100:-100], abs=2e-3)


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"labels": "infered"}, "`labels` must be 'inferred'.*Received: labels='infered'"),
            ({"labels": [0, 1]}, r"`labels` has 2 entries, and '.*' holds 15 texts"),
            ({"labels": ["a"] * 15}, r"`labels` must be integers.*'a' \(str\)"),
            ({"labels": [3] * 15, "label_mode": "categorical"}, r"needs labels 0 to 0. Received: \[3\]"),
            ({"labels": [3] * 15, "class_names": ["a"]}, "`class_names` goes with labels='inferred' only"),
            (
                {"class_names": ["god", "bad"]},
                r"no subdirectory is called 'god'. Did you mean 'good'\? There are: \['bad'",
            ),
            ({"class_names": ["bad", "bad"]}, "a name is there twice"),
            ({"label_mode": "integer"}, r"`label_mode` must be .*Received: label_mode='integer'"),
            ({"label_mode": "binary", "class_names": ["bad"]}, r"needs exactly 2 classes. Found 1: \['bad'\]"),
            ({"validation_split": 0.2}, "`validation_split` and `subset` go together"),
            ({"subset": "training"}, "`validation_split` and `subset` go together"),
            ({"validation_split": 0.2, "subset": "train"}, "`subset` must be .*Did you mean 'training'"),
            ({"validation_split": 1.2, "subset": "both"}, "must lie between 0 and 1. Received: validation_split=1.2"),
            ({"validation_split": 0.2, "subset": "both"}, r"needs a `seed`.*seed=1337"),
            ({"validation_split": 0.01, "subset": "both", "seed": 1}, "of 15 files leaves none for validation"),
            ({"seed": -1}, "`seed` must be an integer not below 0, or None. Received: seed=-1"),
            ({"seed": 1.5}, "`seed` must be an integer not below 0"),
            ({"batch_size": 0}, "`batch_size` must be a positive integer, or None"),
            ({"format": "torch"}, "`format` must be 'tf' or 'grain'"),
            ({"max_length": 0}, "`max_length` must be a positive integer, or None"),
        ],
    )
    def test_arguments(self, texts, arguments, message):
        with pytest.raises(ValueError, match=message):
            text_dataset(texts, verbose=False, **arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"color_mode": "rgb8"}, r"`color_mode` must be .*Did you mean 'rgb'"),
            ({"interpolation": "billinear"}, "`interpolation` must be one of .*Did you mean 'bilinear'"),
            ({"image_size": (16,)}, r"`image_size` must be two positive integers, \(height, width\)"),
            ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "exclude each other"),
        ],
    )
    def test_image_arguments(self, texts, arguments, message):
        with pytest.raises(ValueError, match=message):
            image_dataset(texts, **arguments)

    def test_audio_arguments(self, sounds):
        with pytest.raises(ValueError, match="`sampling_rate` must be a positive integer"):
            audio_dataset(sounds, sampling_rate=0)
        with pytest.raises(ValueError, match="`ragged` and `output_sequence_length` exclude each other"):
            audio_dataset(sounds, ragged=True, output_sequence_length=3)

    def test_directories(self, texts, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no directory '.*/god'.*Did you mean 'good'"):
            text_dataset(texts / "god")
        with pytest.raises(FileNotFoundError, match=r"There is no '.*/nowhere' either"):
            text_dataset(texts / "nowhere" / "deep")
        with pytest.raises(ValueError, match=r"there are no images.*\.png are looked for, and there are: 15 with \.txt"):
            image_dataset(texts, verbose=False)
        (texts / "void").mkdir()
        with pytest.raises(ValueError, match="the directory is empty"):
            text_dataset(texts / "void", verbose=False)
        with pytest.raises(ValueError, match=r"8 lie directly in it.*Give labels=None"):
            text_dataset(texts / "good", verbose=False)

    def test_a_sorted_split_is_warned_of(self, texts):
        with pytest.warns(UserWarning, match="holds the last classes only"):
            text_dataset(texts, validation_split=0.2, subset="both", shuffle=False, verbose=False)

    def test_a_missing_file_is_named(self, texts):
        dataset = text_dataset(texts, shuffle=False, verbose=False)
        os.remove(dataset.file_paths[3])
        with pytest.raises(FileNotFoundError, match=r"bad/3.txt"):
            next(iter(dataset))
