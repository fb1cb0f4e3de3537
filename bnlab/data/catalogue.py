"""The data of a session: sources by their content digest. A RunSpec is planned by digest and trained on images."""

from dataclasses import dataclass, field
from pathlib import Path

from bnlab.data import sources
from bnlab.data.sources import Arrays
from bnlab.errors import DataError
from bnlab.specs import CIFAR10


@dataclass(frozen=True)
class Catalogue:
    """Resolves what RunSpecs name as their data, and finds the images again.

    `cache` is the folder for downloads, `session` the source of the session's images: where they are CIFAR-10, its
    parts are taken from there.
    """

    cache: Path
    session: str = ""
    _sources: dict[str, str] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def resolve(self, data: str) -> str:
        """The content digest of a source (DataError as in `sources.load`); "" and a digest as they are."""
        if not data or sources.is_digest(data):
            return data
        if data not in self._digests:
            self._digests[data] = found = sources.digest(data, self.cache)
            self._sources[found] = data
        return self._digests[data]

    def load(self, digest: str) -> Arrays:
        """The images with this digest; a DataError if no source that was resolved has it."""
        if digest not in self._sources:
            raise DataError(
                f"no data source of this session has the digest {digest[:12]}: pass --data with the source of these "
                "images"
            )
        return sources.load(self._where(self._sources[digest]), self.cache)

    def _where(self, source: str) -> str:
        """The same images in the file of the session, if it holds CIFAR-10 and these are a part of it."""
        name, colon, part = source.partition(":")
        is_part, is_file = bool(colon and name == "cifar10"), self.session.endswith(".npz")
        same = is_part and is_file and sources.digest(self.session, self.cache) == CIFAR10
        return f"{self.session}:{part}" if same else source
