"""Files are decoded in threads ahead of the network, in order and within bounds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from se_resnet.images.decode import decode_image
from se_resnet.images.pixels import ImageError, digest
from se_resnet.predict import ahead, pictures
from se_resnet.predict.views import OVERLAY
from tests.helpers.image_trees import encode, random_image


def contents(count):
    return [(number, encode(random_image(seed=number))) for number in range(count)]


def test_results_come_in_order_although_later_images_are_ready_first():
    second_done = threading.Event()

    def prepare(number, image):
        if number == 0:
            assert second_done.wait(20)
        else:
            second_done.set()
        return image

    results = list(ahead.prepare_ahead(contents(3), prepare))
    assert [number for number, *_ in results] == [0, 1, 2]
    for number, image, hashed in results:
        np.testing.assert_array_equal(image, decode_image(contents(3)[number][1]))
        assert hashed == digest(image)


def test_a_file_that_cannot_be_used_takes_its_place():
    def prepare(number, image):
        if number == 2:
            raise ValueError("is refused")
        return number

    given = contents(4)
    given[0] = (0, ImageError("is missing"))
    given[1] = (1, b"no image")
    results = list(ahead.prepare_ahead(given, prepare))
    assert [str(result) for _, result, _ in results[:3]] == [
        "is missing",
        "is not an image, or is broken",
        "is refused",
    ]
    assert [hashed for *_, hashed in results[:3]] == ["", "", ""] and results[3][1] == 3


def test_another_exception_ends_the_prediction():
    def prepare(number, image):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        list(ahead.prepare_ahead(contents(1), prepare))


@pytest.mark.parametrize(("bytes_ahead", "most"), [(2**26, 16), (1, 1)])
def test_a_bounded_number_of_files_is_ahead(monkeypatch, bytes_ahead, most):
    monkeypatch.setattr(ahead, "_BYTES_AHEAD", bytes_ahead)
    taken = 0

    def counted():
        nonlocal taken
        for item in contents(40):
            taken += 1
            yield item

    furthest = 0
    for received, _ in enumerate(ahead.prepare_ahead(counted(), lambda number, image: None)):
        furthest = max(furthest, taken - received)
    assert taken == 40 and furthest == most + 1  # and the file that makes place


class OnePicture:
    def __init__(self, draw):
        self.draw = draw

    def pictures(self):
        yield "a.png", OVERLAY, self.draw


def test_pictures_are_written_while_the_caller_goes_on(tmp_path):
    release = threading.Event()

    def draw():
        assert release.wait(20)
        return random_image()

    with pictures.picture_writer(tmp_path) as writer:
        writer.write(OnePicture(draw))
        assert not list(tmp_path.iterdir())
        release.set()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png.png"]


def test_a_picture_that_cannot_be_written_ends_the_prediction(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError), pictures.picture_writer(tmp_path / "file") as writer:
        writer.write(OnePicture(random_image))


def test_the_pictures_of_one_batch_are_in_memory_at_most(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        writer = pictures.PictureWriter(tmp_path, pool)
        writer.write(OnePicture(random_image))
        writer.write(OnePicture(random_image))
        assert (tmp_path / "a.png.png").exists()
        writer.finish()
