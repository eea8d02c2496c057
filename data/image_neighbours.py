"""Exact nearest neighbours of images, for the over-samplers of imbalanced-learn."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.neighbors._base import KNeighborsMixin
from threadpoolctl import threadpool_limits

from data.records import Records

_THUMBNAIL_SIDE = 32


def image_features(
    members: Records, images: np.ndarray, features: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns feature vectors ``uint8 [*, d]`` and the row of each member in them, ``int [n]``."""
    if features == "pixels":
        return images.reshape(len(images), -1), members.row
    thumbnails = [
        cv2.resize(images[row], (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
        for row in members.row
    ]
    return np.stack(thumbnails).reshape(len(members), -1), np.arange(len(members))


class ImageNeighbours(KNeighborsMixin, BaseEstimator):
    """A neighbour search over one-hot rows by the distances of the images that they stand for.

    Distances are Euclidean and exact to the last bit; equal distances are ordered by row. The
    squared distances of ``uint8`` vectors are integers. So are the products of pixels less 128,
    which are at most 2^14. A sum over 1,024 columns stays within 2^24, where float32 is exact, so
    the fast matrix product loses nothing. Features are read in slabs of columns, and distances are
    computed for a block of rows at a time, so that neither fills the memory.
    """

    _SLAB_COLUMNS = 1024
    _BLOCK_DISTANCES = 2**23

    def __init__(self, features: np.ndarray, rows: np.ndarray, n_neighbors: int):
        self.features = features
        self.rows = rows
        self.n_neighbors = n_neighbors

    def __sklearn_clone__(self) -> ImageNeighbours:
        # The default would copy the features.
        return type(self)(self.features, self.rows, self.n_neighbors)

    def fit(self, X: sparse.csr_matrix, y: None = None) -> ImageNeighbours:
        """Sets the images of these rows as the images to search."""
        self.fitted_rows_ = self.rows[X.indices]
        return self

    def kneighbors(
        self, X: sparse.csr_matrix, n_neighbors: int | None = None, return_distance: bool = True
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Returns the nearest fitted rows of each row, in order: ``int64 [m, n_neighbors]``."""
        queries, count = self.rows[X.indices], n_neighbors or self.n_neighbors
        nearest = np.empty((len(queries), count), np.int64)
        distances = np.empty((len(queries), count))
        workers = os.cpu_count() or 1
        largest = max(1, self._BLOCK_DISTANCES // len(self.fitted_rows_))
        block = min(largest, -(-len(queries) // workers))

        def search(start: int) -> None:
            part = slice(start, start + block)
            squared = self._squared_distances(queries[part], self.fitted_rows_)
            nearest[part] = np.argsort(squared, axis=1, kind="stable")[:, :count]
            distances[part] = np.sqrt(np.take_along_axis(squared, nearest[part], axis=1))

        # The threads of the matrix product wait for each other in each of many small products. On a
        # busy machine that takes ten times as long as independent threads.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
            list(pool.map(search, range(0, len(queries), block or 1)))
        return (distances, nearest) if return_distance else nearest

    def _squared_distances(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Returns squared distances of the features in these rows, ``float64 [left, right]``."""
        squared = np.zeros((len(left), len(right)))
        for start in range(0, self.features.shape[1], self._SLAB_COLUMNS):
            columns = slice(start, start + self._SLAB_COLUMNS)
            b = self.features[right, columns].astype(np.float32) - 128
            a = self.features[left, columns].astype(np.float32) - 128
            squared -= 2 * (a @ b.T)
            squared += np.square(a).sum(axis=1)[:, None]
            squared += np.square(b).sum(axis=1)
        return squared
