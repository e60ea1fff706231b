"""A database as an open source observer has it: generated, the same each time, made to be changed.

What is in it was chosen to be hard on a pipeline: keys of two columns, arrays, an enum, jsonb,
decimals of 18 places, time with and without a zone, texts that are stored apart from their row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, LiteralString, NamedTuple

from psycopg import sql

if TYPE_CHECKING:
    import psycopg

TABLES: Final = ("projects", "repositories", "issues", "votes", "rankings")
ROLE: Final = "oso"
ROLE_PASSWORD: Final = "sandbox"  # noqa: S105 - of a server that listens on loopback only
PUBLICATION: Final = "oso_publication"
SLOT: Final = "oso_slot"

SCHEMA: Final[LiteralString] = """\
CREATE TYPE issue_state AS ENUM ('open', 'closed');

CREATE TABLE projects (
  id uuid PRIMARY KEY,
  slug text NOT NULL UNIQUE,
  display_name text NOT NULL,
  description text,
  links jsonb NOT NULL,
  tags text[] NOT NULL,
  funding numeric(20, 2),
  founded_on date,
  created_at timestamptz NOT NULL
);

CREATE TABLE repositories (
  id bigint PRIMARY KEY,
  project_id uuid NOT NULL REFERENCES projects,
  full_name text NOT NULL,
  stars int NOT NULL,
  languages jsonb NOT NULL,
  topics text[],
  license text,
  is_fork boolean NOT NULL,
  readme text,
  pushed_at timestamptz
);

CREATE TABLE issues (
  id bigint PRIMARY KEY,
  repository_id bigint NOT NULL,
  number int NOT NULL,
  title text NOT NULL,
  body text,
  state issue_state NOT NULL,
  labels text[] NOT NULL,
  reactions jsonb,
  opened_at timestamptz NOT NULL,
  closed_at timestamptz
);

CREATE TABLE votes (
  round smallint,
  voter text,
  project_id uuid NOT NULL,
  amount numeric(38, 18) NOT NULL,
  weight double precision NOT NULL,
  cast_at timestamp NOT NULL,
  PRIMARY KEY (round, voter)
);

CREATE TABLE rankings (
  position int PRIMARY KEY,
  project_id uuid NOT NULL REFERENCES projects,
  score double precision NOT NULL,
  computed_at timestamptz NOT NULL
);
"""

# Numbers of rows at scale 1: about 370,000 together.
ROWS: Final = {"projects": 2_000, "repositories": 20_000, "issues": 150_000, "votes": 200_000}
RANKED: Final = 100

_WORDS: Final = (
    "'{async,graph,query,ledger,parser,solar,storage,vector,proof,relay,kernel,bridge}'::text[]"
)
# `i` is the number of the row; a prime keeps the columns from moving in step.
_FILL: Final[dict[str, LiteralString]] = {
    "projects": """
        SELECT md5('project ' || i)::uuid,
          w[1 + i % 12] || '-' || w[1 + i * 7 % 11] || '-' || i,
          initcap(w[1 + i % 12]) || ' ' || initcap(w[1 + i * 7 % 11]) || ' №' || i,
          CASE WHEN i % 9 > 0 THEN 'Tools for ' || w[1 + i * 5 % 12] || ', "as it should be"' END,
          jsonb_build_object('website', 'https://p' || i || '.example.org', 'social',
            jsonb_build_array('@p' || i, NULL), 'verified', i % 3 = 0),
          w[1 + i % 5 : 2 + i % 5],
          CASE WHEN i % 4 > 0 THEN (i::bigint * 7919 % 100000000) / 100.0 END,
          CASE WHEN i % 5 > 0 THEN date '2009-01-03' + i % 5800 END,
          timestamptz '2015-07-30 15:26:13+00' + i * interval '97 minutes 31 seconds'
    """,
    "repositories": """
        SELECT i, md5('project ' || 1 + i % {projects})::uuid,
          w[1 + i % 12] || '/' || w[1 + i * 5 % 12] || '-' || i,
          (i::bigint * 7919 % 90000)::int / (1 + i % 50),
          jsonb_build_object('Python', i * 31 % 90000, 'Rust', i * 17 % 70000),
          CASE WHEN i % 6 > 0 THEN ARRAY[w[1 + i % 12], NULL, 'a "quoted" topic'] END,
          CASE i % 4 WHEN 0 THEN 'MIT' WHEN 1 THEN 'Apache-2.0' WHEN 2 THEN 'GPL-3.0-only' END,
          i % 11 = 0,
          CASE WHEN i % 20 = 0 THEN (SELECT string_agg(md5(i::text || k), E'\\n')
            FROM generate_series(1, 150) k) END,
          CASE WHEN i % 13 > 0 THEN
            timestamptz '2024-01-01 00:00:00+00' + i * interval '41.000123 seconds' END
    """,
    "issues": """
        SELECT i, 1 + i::bigint * 7919 % {repositories}, 1 + i / {repositories},
          'The ' || w[1 + i % 12] || ' loses ' || w[1 + i * 7 % 12] || ' on restart ☃',
          CASE WHEN i % 10 > 0 THEN
            'Since v' || i % 9 || '.' || i % 17 || E':\\n\\t"steps" \\\\ ' || md5(i::text) END,
          (CASE WHEN i % 3 > 0 THEN 'closed' ELSE 'open' END)::issue_state,
          CASE WHEN i % 4 = 0 THEN ARRAY['bug', w[1 + i % 12]] ELSE '{{}}'::text[] END,
          CASE WHEN i % 5 = 0 THEN jsonb_build_object('+1', i % 40, 'heart', i % 7) END,
          timestamptz '2020-02-29 12:00:00+00' + i * interval '13 minutes 7.654321 seconds',
          CASE WHEN i % 3 > 0 THEN
            timestamptz '2020-03-01 12:00:00+00' + i * interval '14 minutes' END
    """,
    "votes": """
        SELECT 1 + i % 6, '0x' || md5(i::text) || left(md5('voter ' || i), 8),
          md5('project ' || 1 + i * 31 % {projects})::uuid,
          (i::bigint * 104729 % 1000000007)::numeric / 1000000000000000000 + i % 1000,
          i % 97 / 3.0,
          timestamp '2024-09-23 17:00:00' + i * interval '2.5 seconds'
    """,
}
_RANK: Final[LiteralString] = """
    INSERT INTO rankings
    SELECT row_number() OVER (ORDER BY sum(amount) {order}, project_id), project_id,
      sum(amount * weight)::float8, {moment}
    FROM votes JOIN projects ON projects.id = project_id GROUP BY project_id
    ORDER BY 1 LIMIT {ranked}
"""

# What the owner of a database is asked to run: docs/connect-postgres.md.
PREPARATION: Final[tuple[LiteralString, ...]] = (
    "CREATE ROLE oso LOGIN REPLICATION PASSWORD 'sandbox'",
    "GRANT USAGE ON SCHEMA public TO oso",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO oso",
    "CREATE PUBLICATION oso_publication FOR TABLE projects, repositories, issues, votes, rankings",
    "SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')",
)


class Change(NamedTuple):
    """Something that happens in the source: what to call it, and its statements."""

    kind: str
    title: str
    statements: tuple[LiteralString, ...]


# Rows 1 to 600 are there at every scale.
CHANGES: Final = (
    Change(
        "insert",
        "issues are opened",
        (
            """
            INSERT INTO issues
            SELECT max + i, i, 1, 'A new issue №' || i, repeat('a line of the log ', 500), 'open',
              '{triage}', NULL, timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second'
            FROM (SELECT max(id) FROM issues) AS last, generate_series(1, 500) i
            """,
        ),
    ),
    Change(
        "update",
        "issues are closed",
        (
            """
            UPDATE issues SET state = 'closed', closed_at = '2026-01-02 03:04:05.678901+00'
            WHERE id <= 600 AND state = 'open'
            """,
        ),
    ),
    Change(
        "key change",
        "voters move to a new address",
        ("UPDATE votes SET voter = voter || '-moved' WHERE voter < '0x02'",),
    ),
    Change("delete", "votes are withdrawn", ("DELETE FROM votes WHERE voter > '0xfc'",)),
    Change(
        "new column",
        "repositories get a score",
        (
            "ALTER TABLE repositories ADD COLUMN scorecard numeric(3, 1)",
            "UPDATE repositories SET scorecard = id % 100 / 10.0 WHERE id <= 400",
        ),
    ),
    Change(
        "truncate",
        "rankings are computed again",
        ("TRUNCATE rankings", _RANK.format(order="ASC", moment="'2026-01-03'", ranked=RANKED)),
    ),
)


def fill(source: psycopg.Connection, scale: float = 1) -> int:
    """Make the tables and fill them.

    Args:
        source: As the owner of an empty database.
        scale: Size; 1 means about 370,000 rows, and no table has less than 600.

    Returns:
        How many rows there are.
    """
    source.execute(SCHEMA)
    rows = {table: max(600, round(count * scale)) for table, count in ROWS.items()}
    for table, select in _FILL.items():
        query = sql.SQL(
            "INSERT INTO {} {} FROM generate_series(1, {}) i, (SELECT {} AS w) AS words"
        )
        counts = {name: sql.Literal(count) for name, count in rows.items()}
        source.execute(
            query.format(
                sql.Identifier(table),
                sql.SQL(select).format(**counts),
                rows[table],
                sql.SQL(_WORDS),
            )
        )
    source.execute(_RANK.format(order="DESC", moment="'2025-12-31'", ranked=RANKED))
    source.execute("VACUUM ANALYZE")
    return sum(rows.values()) + RANKED


def prepare(source: psycopg.Connection) -> None:
    """Do what the owner of a database is asked to do: role, grants, publication, slot."""
    for statement in PREPARATION:
        source.execute(statement)


def change(source: psycopg.Connection, change: Change) -> int:
    """Make a change in one transaction; returns how many rows its last statement touched."""
    with source.transaction():
        for statement in change.statements:
            touched = source.execute(statement).rowcount
    return touched
