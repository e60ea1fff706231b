"""A state for tables that another tool has brought into the warehouse."""

from contextlib import closing
from datetime import UTC, datetime

from tap_postgres_cdc import prerequisites, visibility
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.discovery import discover
from tap_postgres_cdc.facts import TableFacts
from tap_postgres_cdc.sessions import Session
from tap_postgres_cdc.settings import Settings
from tap_postgres_cdc.state import Bookmark, State
from tap_postgres_cdc.typecatalog import TypeCatalog


def adopt(settings: Settings, connector: Connector, connection: Session) -> State:
    """The state of a pipeline that has copied every table and read the slot up to where it is.

    It is right if whoever read the slot has loaded all that they have confirmed, and no longer
    reads it. What they have loaded beyond that comes again.

    Raises:
        CaptureError: The slot or the publication can't be read.
    """
    prerequisites.check_server(connection)
    slot = prerequisites.find_slot(connection, settings.slot, connection.stop, is_first_run=True)
    with closing(connector.connect_to_replicate()) as replication:
        position = prerequisites.current_slot(connection, replication, slot)
    position.see(visibility.end_of_log(connection))
    position.oldest_xid = visibility.current_snapshot(connection).xmin
    types = TypeCatalog(connection)
    tables = discover(
        connection,
        types,
        settings.publication,
        settings.schemas,
        settings.stream_name,
    ).tables
    version = round(datetime.now(UTC).timestamp() * 1000)
    bookmarks = {
        table.stream: Bookmark(version, TableFacts.of(table, table.columns, types))
        for table in tables
    }
    return State(position, bookmarks)
