"""A step of the schema that has landed is never changed again: databases out there went through it as it was."""

import hashlib
from importlib import resources

import pytest

LANDED = {
    "sqlite/0001_before_first_schema.sql": (
        "21755c7f5cfb9d542a0f8ba80ae19788abad27164c9b04a3b41a0f9eb401c43f"
    ),
    "sqlite/0002_before_retention.sql": (
        "23c23e8ac71da90085b0d0681b74b4c97927c2196052f2059246730236660959"
    ),
    "sqlite/0003_before_escrow.sql": (
        "2d62fb0537d2d15fd080656bffcb28c12d7719aea0b2cbd8a55e68224150ccb1"
    ),
    "sqlite/0004_before_identity_renewal.sql": (
        "123f6d70ba0be4832c1e411fad2ac771c9046277467ed92df868f272009e629f"
    ),
    "sqlite/0005_before_lookups.sql": (
        "b3d9e44e80dcb7fe0d0b8a947fd9927867886dc1dab59780e48801be35942207"
    ),
    "postgres/0001_before_first_schema.sql": (
        "9e1ce01ff9406d6553b8045ee4bc77d5d519f4d913f63a213c53e007fa607028"
    ),
    "postgres/0002_before_retention.sql": (
        "8ad7d4718fba8d70ef8f3843998670d4be2bbef853c303b9e70ed97692d917d4"
    ),
    "postgres/0003_before_escrow.sql": (
        "ac175cc47e97bc8d6818a49806f3c132b729e683b2e99403b26a8a41262f178f"
    ),
    "postgres/0004_before_identity_renewal.sql": (
        "61cc8197f30307c9de24e32727fdffeed0ad0696193f391377e4543b465cbf1f"
    ),
    "postgres/0005_before_lookups.sql": (
        "b3d9e44e80dcb7fe0d0b8a947fd9927867886dc1dab59780e48801be35942207"
    ),
    "sqlite/0006_before_came_erased.sql": (
        "8348d2e81fc731e576754088ba12efe85729db9a120c45d16f7da1332537a007"
    ),
    "sqlite/0007_before_serial_numbers.sql": (
        "a680adff9d303fb52c3d51a854431a1eb6d207014cb42192230fbcfe52cf243b"
    ),
    "postgres/0006_before_came_erased.sql": (
        "136499520787ee2f4bc8af6fba44e3b98020fe8705af40d7107851dcd845ca9d"
    ),
    "postgres/0007_before_serial_numbers.sql": (
        "a680adff9d303fb52c3d51a854431a1eb6d207014cb42192230fbcfe52cf243b"
    ),
    "sqlite/0008_before_unclear_answers.sql": (
        "d8b18b1aaa3ff4624448e03b93affa68c14f6f4dfa7c6792825821e364539996"
    ),
    "sqlite/0009_before_review_notes.sql": (
        "3142ae8d60b9091caa1807eefdfda4c88f20c927fbd55cd57b2285f5801f0db2"
    ),
    "postgres/0008_before_unclear_answers.sql": (
        "d8b18b1aaa3ff4624448e03b93affa68c14f6f4dfa7c6792825821e364539996"
    ),
    "postgres/0009_before_review_notes.sql": (
        "8a5221c3796007a1b505ca95dac4e0893d6f61c66925c4ecfd1bb09a37ec75af"
    ),
}
"""SHA-256 of each; a step is added here once it is on the main branch."""


@pytest.mark.parametrize("name", LANDED)
def test_a_landed_step_is_as_it_was(name: str) -> None:
    """An Ostiary that finds another text under a name it knows refuses to start (SchemaAltered): add a new step."""
    text = resources.files("ostiary.storage.migrations").joinpath(name).read_bytes()
    assert hashlib.sha256(text).hexdigest() == LANDED[name]
