"""What a Singer catalog says of each stream: whether and how it goes out, and which columns do.

The SDK makes a stream with a schema of every entry, which takes as long as all the rest of a run
where there are thousands; of an entry only its metadata matters.
See https://hub.meltano.com/singer/spec#metadata.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from singer_sdk.singerlib import MetadataMapping

from tap_postgres_cdc.errors import CaptureError

METHODS: Final = ("LOG_BASED", "FULL_TABLE")


class _Metadata(msgspec.Struct, rename="kebab", omit_defaults=True, gc=False):
    selected: bool | None = None
    selected_by_default: bool | None = None
    inclusion: str | None = None
    replication_method: str | None = None
    forced_replication_method: str | None = None


class _Item(msgspec.Struct, gc=False):
    breadcrumb: list[str]
    metadata: _Metadata


class _Entry(msgspec.Struct, gc=False):
    tap_stream_id: str
    metadata: msgspec.Raw = msgspec.Raw(b"[]")


class _Catalog(msgspec.Struct):
    streams: list[_Entry] = []


class StreamSelection:
    """What the catalog says of a stream; without an entry all of it goes out."""

    def __init__(self, stream: str, items: Sequence[_Item] = ()) -> None:
        """Take the metadata of the stream's entry.

        Raises:
            CaptureError: The replication method is none of ours.
        """
        root = next((item.metadata for item in items if not item.breadcrumb), _Metadata())
        method = root.replication_method or root.forced_replication_method or METHODS[0]
        if method not in METHODS:
            raise CaptureError(
                f"stream {stream}: replication-method {method} is not supported, use "
                f"{' or '.join(METHODS)}"
            )
        self.replication_method = method
        self._mask = None
        if items and not _is_whole(root, (item.metadata for item in items)):
            plain: list[Any] = msgspec.to_builtins(items)
            self._mask = MetadataMapping.from_iterable(plain).resolve_selection()

    @property
    def selected(self) -> bool:
        """Whether the stream goes out at all."""
        return self._mask is None or self._mask[()]

    def is_column_selected(self, name: str) -> bool:
        """Whether records hold the column."""
        return self._mask is None or self._mask["properties", name]


class CatalogSelection:
    """Selections of all streams."""

    def __init__(self, catalog: bytes | Mapping[str, Any] | None) -> None:
        """Read a catalog, as a file has it or as an object; None says that all goes out.

        Raises:
            CaptureError: It is no catalog, or has a replication method that is none of ours.
        """
        data = catalog if isinstance(catalog, bytes) else msgspec.json.encode(catalog or {})
        try:
            # Entry by entry: all at once, they would take more memory than all the rest of a run.
            self._streams = {
                entry.tap_stream_id: StreamSelection(
                    entry.tap_stream_id, msgspec.json.decode(entry.metadata, type=list[_Item])
                )
                for entry in msgspec.json.decode(data, type=_Catalog).streams
            }
        except msgspec.DecodeError as error:
            raise CaptureError(f"the catalog is damaged: {error}") from None

    def of(self, stream: str) -> StreamSelection:
        """The selection of a stream; all of it goes out if the catalog does not have it."""
        return self._streams.get(stream) or StreamSelection(stream)


def _is_whole(root: _Metadata, items: Iterable[_Metadata]) -> bool:
    """Whether all of a stream is selected, which is quicker to tell than what of it is."""
    return (root.selected or root.selected_by_default) is True and all(
        item.inclusion != "unsupported"
        and item.selected in {None, True}
        and item.selected_by_default in {None, True}
        for item in items
    )
