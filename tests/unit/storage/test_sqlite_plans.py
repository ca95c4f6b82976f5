"""Hot statements are served by an index or a key, whatever the size of the tables."""

import re
from collections.abc import Iterator

import apsw
import pytest

from conformance.storage_values import NOON
from ostiary.storage.sqlite import (
    escrows,
    load,
    push_certificates,
    renewals,
    reports,
    retention,
    retention_aged,
    wakes,
    write,
    write_tokens,
)
from ostiary.storage.sqlite.connection import open_writer
from ostiary.storage.sqlite.schema import migrate, shipped_migrations
from unit.storage.statements import statements

STATEMENTS = statements("sqlite")

MAY_SCAN = {
    "LIST_PUSH_DEAD": "dead tokens of channels in force: few, and in a reader's thread",
    "CERTIFICATES": "a handful of rows",
    "COUNT_TOKENS": "one row for each kind and state",
    "COUNT_ENROLLMENTS": "one row for each type and state",
    "COUNT_COMMANDS": "a dry run of retention, in a reader's thread",
    "CROWDED_ALERTS": "all alerts, in a reader's thread",
    "COUNT_CANCELLED": "a dry run of retention, in a reader's thread",
    "OLD_COMMANDS": "along the primary key, to the limit",
    "OLD_CANCELLED": "along command_closed_cancelled, to the limit",
    "FIND_NOTABLE": "the reviews that it was given; served by token_generation for each",
    "LIST_REVIEWS": "any few will do, of the oldest notes from one end of the primary key",
    "LIST_CANARIES": "along identity_renewal_canary, which holds nothing else",
    "COUNT_LIVE": "a figure for /metrics",
    "COUNT_WAKES": "a figure for /metrics",
    "COUNT_ALERTS": "a figure for /metrics",
    "COUNT_DEAD": "a figure for /metrics, along an index that holds nothing else",
    "SERVED_BY_TOPIC": "a figure for health and for an import, in a reader's thread",
    "NEXT_DUE": "along wake_due, until the first that can be pushed, in a reader's thread",
    "LAST_AUDIT": "along the primary key from its end, one row",
    "OLD_RELATIONSHIPS": "along enrollment_ended, which holds nothing else",
    "APPLIED_MIGRATIONS": "a handful of rows, at the start",
    "EPOCHS": "a handful of rows, at the start",
    "POLICIES": "a handful of rows",
    "SILENT": "all devices, once an hour in a reader's thread",
    "LIST_ALL_LIVE": "a report over all channels, in a reader's thread",
    "LIST_ALERTS": "latest first along alert_by_last, until the limit",
    "LIST_ALL_CLOSED": "newest first along the primary key, until the limit",
}


MAY_SORT = {
    "LIST_REVIEWS": "five thousand notes at most, in a reader's thread",
    "CROWDED_ALERTS": "all alerts, in a reader's thread",
    "RELATIONSHIPS": "of one device: one, after a contest two",
    "FIND_ENROLLMENTS": "of one device, with its users",
    "LIST_BINDINGS": "of one device",
    "LIST_LIVE": "of one device",
    "LIST_CLOSED": "of one device, in a reader's thread",
    "SURPLUS": "numbers of one channel, in a reader's thread",
    "CLOSE_AS_CANCELLED": "of one device",
    "LIST_ALERTS": "those of the same moment",
    "LIST_PUSH_DEAD": "dead tokens of channels in force: few, and in a reader's thread",
    "LIST_ALL_LIVE": "a report over all channels, in a reader's thread",
    "SERVED_BY_TOPIC": "one row for each topic, in a reader's thread",
}
"""What is sorted, and why that is little or rare."""


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    made = open_writer(tmp_path_factory.mktemp("plans") / "plans.db")
    migrate(made, NOON, shipped_migrations())
    yield made
    made.close()


def plan(connection: apsw.Connection, statement: str) -> list[str]:
    numbered = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    count = max(numbered, default=statement.count("?"))
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * count)
    return [detail for *_, detail in rows]


@pytest.mark.parametrize(("name", "statement"), STATEMENTS.items(), ids=STATEMENTS)
def test_no_statement_walks_through_a_table_or_an_index(
    connection: apsw.Connection, name: str, statement: str
) -> None:
    """An index over a tenant's rows alone leads through all of them: most installations have one tenant."""
    walks = [
        step
        for step in plan(connection, statement)
        if re.match(r"SCAN (?!CONSTANT|json_each|.*VIRTUAL)", step) or step.endswith("(tenant=?)")
    ]
    assert not walks or name.rpartition(".")[2] in MAY_SCAN, walks


@pytest.mark.parametrize(("name", "statement"), STATEMENTS.items(), ids=STATEMENTS)
def test_no_statement_sorts_what_could_be_many(
    connection: apsw.Connection, name: str, statement: str
) -> None:
    sorts = [step for step in plan(connection, statement) if "TEMP B-TREE" in step]
    assert not sorts or name.rpartition(".")[2] in MAY_SORT, sorts


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (load.QUEUE, "command_by_turn"),
        (load.QUEUE_WITHOUT_DEFERRED, "command_by_turn"),
        (load.HAS_DEFERRED, "command_deferred"),
        (load.REPORTED, "command_by_uuid"),
        (load.REPORTED_IS_CLOSED, "command_closed_by_uuid"),
        (load.CURRENT_ROW, "enrollment_by_id"),
        (load.RELATIONSHIPS, "enrollment_by_id"),
        (load.USER_ROW, "enrollment_user"),
        (escrows.DUE_ESCROWS, "escrow_due"),
        (escrows.RECORDS, "token_generation"),
        (wakes.DUE_WAKES, "wake_due"),
        (wakes.NEXT_DUE, "wake_due"),
        (write_tokens.ADD_RECORD, "token_generation"),
        (write.SUPERSEDE_IDENTITIES, "token_identity"),
        (reports.LIST_ENROLLMENTS, "enrollment_by_id"),
        (reports.FIND_BY_SERIAL, "enrollment_serial"),
        (reports.COUNT_AUDITED, "audit_by_time"),
        (reports.LIST_CLOSED, "command_closed_by_uuid"),
        (reports.LIST_TOKENS_OF_RARE_KIND, "token_rare_kind"),
        (reports.TOKEN_HISTORY, "token_generation"),
        (retention.READ_HISTORIES, "token_generation"),
        (retention.READ_HISTORY, "token_generation"),
        (retention.SURPLUS, "command_closed_by_uuid"),
        (retention_aged.OLD_CANCELLED, "command_closed_cancelled"),
        (retention_aged.OLD_CHALLENGES, "challenge_by_end"),
        (retention_aged.OLD_INVITATIONS, "invitation_by_end"),
        (retention_aged.OLD_INVITATIONS, "challenge_of_invitation"),
        (retention_aged.OLD_CREDENTIALS, "credential_by_end"),
        (retention_aged.OLD_BINDINGS, "binding_superseded"),
        (retention_aged.OLD_ALERTS, "alert_by_last"),
        (retention_aged.OLD_RELATIONSHIPS, "enrollment_ended"),
        (reports.COUNT_DEAD, "enrollment_push_dead"),
        (push_certificates.SERVED_BY_TOPIC, "enrollment_figures"),
        (renewals.LIST_ENDING, "binding_in_force"),
        (renewals.LIST_UNSCHEDULED, "binding_in_force"),
        (renewals.IN_FORCE, "binding_by_enrollment"),
        (renewals.LIST_LOOKS, "identity_renewal_look"),
        (renewals.LIST_DUE, "identity_renewal_due"),
        (renewals.LIST_CANARIES, "identity_renewal_canary"),
        (renewals.COUNT_ASKED, "identity_renewal_by_asking"),
        (renewals.COUNT_FINISHED, "identity_renewal_by_end"),
    ],
)
def test_a_statement_uses_the_index_that_was_made_for_it(
    connection: apsw.Connection, statement: str, index: str
) -> None:
    assert any(index in step for step in plan(connection, statement))


@pytest.mark.parametrize("statement", [load.QUEUE, wakes.DUE_WAKES, wakes.NEXT_DUE])
def test_what_is_taken_in_order_is_not_sorted(connection: apsw.Connection, statement: str) -> None:
    """A queue of a thousand commands costs no more than one of two."""
    assert not [step for step in plan(connection, statement) if "TEMP B-TREE" in step]


def test_every_statement_stays_prepared(connection: apsw.Connection) -> None:
    """One that is too long for the cache, or that may be planned anew for other values, costs as much as ten runs."""
    cache = connection.cache_stats()
    assert (
        max(len(statement.encode()) for statement in STATEMENTS.values())
        < cache["max_cacheable_bytes"]
    )
    assert len(STATEMENTS) < cache["size"]
    assert connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1)


def test_a_row_saved_in_place_touches_no_index(connection: apsw.Connection) -> None:
    """Columns named in indexes are left out, so a TokenUpdate writes one page of the table."""
    indexed = {
        column
        for (index,) in connection.execute(
            "SELECT name FROM pragma_index_list('enrollment') WHERE origin = 'c'"
        ).fetchall()
        for (column,) in connection.execute(f"SELECT name FROM pragma_index_info('{index}')")
    }
    assigned = set(
        re.findall(r"(\w+) = (?:\?|coalesce)", write.SAVE_ROW_IN_PLACE.split("WHERE")[0])
    )
    assert indexed
    assert not indexed & assigned
