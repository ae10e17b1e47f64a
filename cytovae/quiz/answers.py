"""Where decks and answers are kept: any database SQLAlchemy speaks to, SQLite by default, PostgreSQL by URL.

Truth, order and pictures of a deck lie in the database and leave it one picture at a time. A deck is known to its rater
by an unguessable token, the link to resume it; whoever lists results sees numbers, never tokens. An answer is
committed before the next card can be read, and cannot be given twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import sqlalchemy as sa
from sqlalchemy import orm

from cytovae import schema
from cytovae.errors import QuizError
from cytovae.quiz.deck import SYNTHETIC, Deck
from cytovae.quiz.score import CALLED_REAL, RATER

EXPERTISE = ("Cell biologist", "Microscopist", "Other biologist", "Image analyst", "None of these")
"""What a rater may say of themselves."""

CALL_COLUMNS = (
    "deck",
    RATER,
    "expertise",
    "screen",
    "model",
    "held_out",
    "finished",
    "position",
    schema.CELL_ID,
    schema.TREATMENT,
    schema.MOA,
    SYNTHETIC,
    CALLED_REAL,
    "seconds",
)
"""Columns of a table of calls; ``seconds`` is how long the card was looked at (s), nan where not known."""


class _Base(orm.DeclarativeBase):
    pass


class _Rater(_Base):
    __tablename__ = "raters"
    __table_args__ = (sa.UniqueConstraint("name", "expertise"),)
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(200))
    expertise: orm.Mapped[str] = orm.mapped_column(sa.String(200))


class _Deck(_Base):
    __tablename__ = "decks"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    token: orm.Mapped[str] = orm.mapped_column(sa.String(64), unique=True)
    rater_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("raters.id"))
    screen: orm.Mapped[str] = orm.mapped_column(sa.String(400))
    model: orm.Mapped[str] = orm.mapped_column(sa.String(400))
    created: orm.Mapped[dt.datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    finished: orm.Mapped[dt.datetime | None] = orm.mapped_column(sa.DateTime(timezone=True))
    n_cards: orm.Mapped[int]
    held_out: orm.Mapped[bool]
    options: orm.Mapped[dict[str, Any]] = orm.mapped_column(sa.JSON)
    shape: orm.Mapped[list[int]] = orm.mapped_column(sa.JSON)  # of a picture: H, W, C
    channels: orm.Mapped[list[str]] = orm.mapped_column(sa.JSON)
    rater: orm.Mapped[_Rater] = orm.relationship(lazy="joined")


class _Card(_Base):
    __tablename__ = "cards"
    deck_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("decks.id"), primary_key=True)
    position: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    cell_id: orm.Mapped[str] = orm.mapped_column(sa.String(400), index=True)
    treatment: orm.Mapped[str] = orm.mapped_column(sa.String(400))
    moa: orm.Mapped[str] = orm.mapped_column(sa.String(400))
    synthetic: orm.Mapped[bool]
    picture: orm.Mapped[bytes] = orm.mapped_column(sa.LargeBinary, deferred=True)


class _Answer(_Base):
    __tablename__ = "answers"
    __table_args__ = (sa.ForeignKeyConstraint(["deck_id", "position"], ["cards.deck_id", "cards.position"]),)
    deck_id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    position: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    called_real: orm.Mapped[bool]
    seconds: orm.Mapped[float | None]
    answered: orm.Mapped[dt.datetime] = orm.mapped_column(sa.DateTime(timezone=True))


@dataclasses.dataclass(frozen=True)
class DeckState:
    """How far a deck is; nothing in it depends on the truth.

    Parameters
    ----------
    rater, expertise, screen, model : str
    channels : tuple of str
        Of the pictures, in order.
    n_cards, n_answered : int
    held_out : bool
        Whether all cells come from wells the model was not trained on.
    created : datetime
        UTC.
    """

    rater: str
    expertise: str
    screen: str
    model: str
    channels: tuple[str, ...]
    n_cards: int
    n_answered: int
    held_out: bool
    created: dt.datetime

    @property
    def finished(self) -> bool:
        return self.n_answered >= self.n_cards


@dataclasses.dataclass(frozen=True)
class Card:
    """The card to answer now: its position from 0, and its picture (H, W, C) uint8."""

    position: int
    picture: npt.NDArray[np.uint8]


def default_url() -> str:
    """The SQLite file in the user's data folder, as a database URL."""
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Application Support"
    else:
        home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return f"sqlite:///{home / 'cytovae' / 'quiz.sqlite'}"


class Store:
    """Decks, raters and answers in one database; one store serves any number of threads and processes.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, such as ``sqlite:////data/quiz.sqlite`` or ``postgresql+psycopg://user:secret@host/quiz``.
        Tables are made where they are missing.

    Raises
    ------
    QuizError
        The URL cannot be understood, or the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError:
            raise QuizError(
                f"the quiz database is given as a URL such as sqlite:////data/quiz.sqlite, not {url!r}"
            ) from None
        self.where = parsed.render_as_string(hide_password=True)
        """The URL without its password, fit to be shown."""
        lite = parsed.get_backend_name() == "sqlite"
        if lite and parsed.database in (None, "", ":memory:"):
            raise QuizError(
                "a quiz database in memory would forget its answers; give a file: sqlite:////data/quiz.sqlite"
            )
        try:
            if lite:
                Path(str(parsed.database)).expanduser().parent.mkdir(parents=True, exist_ok=True)
            waits = {"timeout": 30} if lite else {}
            self._engine = sa.create_engine(parsed, connect_args=waits, pool_pre_ping=not lite)
            if lite:
                sa.event.listen(self._engine, "connect", _tune_sqlite)
            self._make_tables()
        except (sa.exc.SQLAlchemyError, OSError, ImportError) as failed:
            raise QuizError(
                f"the quiz database {self.where} cannot be opened ({_first_line(failed)}); check the URL and its rights"
            ) from None

    def _make_tables(self, attempts: int = 5) -> None:
        """Make the tables that are missing; in PostgreSQL IF NOT EXISTS fails where another process does the same."""
        for left in reversed(range(attempts)):
            try:
                with self._engine.begin() as connection:
                    for table in _Base.metadata.sorted_tables:
                        connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
                        for index in table.indexes:
                            connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
                return
            except (sa.exc.IntegrityError, sa.exc.ProgrammingError):
                if not left:
                    raise

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _session(self) -> Iterator[orm.Session]:
        """One transaction: committed at the end of the block, rolled back on an error."""
        try:
            with orm.Session(self._engine) as session, session.begin():
                yield session
        except sa.exc.OperationalError as failed:
            raise QuizError(
                f"the quiz database {self.where} does not answer ({_first_line(failed)}); nothing was lost, try again"
            ) from None

    def open_deck(
        self, deck: Deck, *, rater: str, expertise: str, screen: str, model: str, channels: Sequence[str]
    ) -> str:
        """Keep a freshly dealt deck.

        Parameters
        ----------
        deck : Deck
        rater, expertise : str
            Name or alias; what the rater says of themselves.
        screen, model : str
            Names of what it was dealt from.
        channels : sequence of str
            Names of the pictures' channels.

        Returns
        -------
        str
            The deck's token: holding it is the right to go on with the deck.

        Raises
        ------
        QuizError
            The rater gave no name.
        """
        rater = " ".join(rater.split())
        if not rater or len(rater) > 100:
            raise QuizError(f"a rater has a name or alias of 1 to 100 letters, not {len(rater)}; fill it in")
        token = secrets.token_urlsafe(18)
        with self._session() as session:
            row = _Deck(
                token=token,
                rater=self._rater(session, rater, expertise),
                screen=screen,
                model=model,
                created=_now(),
                n_cards=len(deck.cards),
                held_out=deck.held_out,
                options=dataclasses.asdict(deck.options),
                shape=list(deck.pictures.shape[1:]),
                channels=list(channels),
            )
            session.add(row)
            session.flush()
            session.execute(
                sa.insert(_Card),
                [
                    {
                        "deck_id": row.id,
                        "position": position,
                        "cell_id": str(card[schema.CELL_ID]),
                        "treatment": str(card[schema.TREATMENT]),
                        "moa": str(card[schema.MOA]),
                        "synthetic": bool(card[SYNTHETIC]),
                        "picture": np.ascontiguousarray(picture).tobytes(),
                    }
                    for position, (card, picture) in enumerate(
                        zip(deck.cards.to_dict("records"), deck.pictures, strict=True)
                    )
                ],
            )
        return token

    @staticmethod
    def _rater(session: orm.Session, name: str, expertise: str) -> _Rater:
        wanted = sa.select(_Rater).where(_Rater.name == name, _Rater.expertise == expertise)
        if (known := session.scalar(wanted)) is not None:
            return known
        try:
            with session.begin_nested():
                session.add(_Rater(name=name, expertise=expertise))
        except sa.exc.IntegrityError:  # somebody else has just added the same rater
            pass
        return session.scalars(wanted).one()

    @staticmethod
    def _find(session: orm.Session, token: str) -> tuple[_Deck, int]:
        """The deck of a token and how many of its cards are answered."""
        row = session.scalar(sa.select(_Deck).where(_Deck.token == token))
        if row is None:
            raise QuizError("this link does not lead to a deck; check that it was copied whole, or start a new one")
        answered = session.scalar(sa.select(sa.func.count()).where(_Answer.deck_id == row.id))
        return row, int(answered or 0)

    def state(self, token: str) -> DeckState:
        """How far a deck is.

        Raises
        ------
        QuizError
            There is no such deck.
        """
        with self._session() as session:
            return _state(*self._find(session, token))

    def card(self, token: str) -> Card:
        """The card to answer now.

        Raises
        ------
        QuizError
            There is no such deck, or all of its cards are answered.
        """
        with self._session() as session:
            row, answered = self._find(session, token)
            if answered >= row.n_cards:
                raise QuizError(f"all {row.n_cards} cards of this deck are answered; look at its result")
            picture = session.scalar(
                sa.select(_Card.picture).where(_Card.deck_id == row.id, _Card.position == answered)
            )
            return Card(answered, np.frombuffer(picture or b"", dtype=np.uint8).reshape(row.shape))

    def answer(self, token: str, position: int, called_real: bool, seconds: float | None = None) -> DeckState:
        """Keep an answer; it is committed when this returns.

        Parameters
        ----------
        token : str
        position : int
            Of the card that was shown, from 0; it must be the next one to answer.
        called_real : bool
            What the rater said.
        seconds : float, optional
            How long they looked (s).

        Raises
        ------
        QuizError
            There is no such deck, the card is answered already, or it is not its turn.
        """
        with self._session() as session:
            row, answered = self._find(session, token)
            if position < answered:
                raise QuizError(f"card {position + 1} of this deck is answered already; an answer cannot be changed")
            if position > answered or position >= row.n_cards:
                raise QuizError(f"card {position + 1} is not the one to answer; the deck is at card {answered + 1}")
            session.add(
                _Answer(deck_id=row.id, position=position, called_real=called_real, seconds=seconds, answered=_now())
            )
            try:
                session.flush()
            except sa.exc.IntegrityError:  # the same link, open twice
                raise QuizError(
                    f"card {position + 1} of this deck is answered already; an answer cannot be changed"
                ) from None
            if answered + 1 == row.n_cards:
                row.finished = _now()
            return _state(row, answered + 1)

    def result(self, token: str) -> tuple[pd.DataFrame, npt.NDArray[np.uint8]]:
        """The calls of a finished deck beside the truth, and its pictures.

        Returns
        -------
        tuple of (DataFrame, (n, H, W, C) uint8)
            `CALL_COLUMNS`, in the order of showing.

        Raises
        ------
        QuizError
            There is no such deck, or cards are left: the truth is told at the end.
        """
        with self._session() as session:
            row, answered = self._find(session, token)
            if answered < row.n_cards:
                raise QuizError(
                    f"{row.n_cards - answered} of {row.n_cards} cards are left; answer them, then the result is told"
                )
            pictures = session.scalars(
                sa.select(_Card.picture).where(_Card.deck_id == row.id).order_by(_Card.position)
            ).all()
            number, shape = row.id, row.shape
        return (
            self._calls(_Deck.id == number),
            np.stack([np.frombuffer(p, dtype=np.uint8).reshape(shape) for p in pictures]),
        )

    def calls(self, *, screen: str | None = None, model: str | None = None) -> pd.DataFrame:
        """The calls of all finished decks; unfinished ones are left out, so that nobody stops when it suits.

        Parameters
        ----------
        screen, model : str, optional
            Keep those of one screen, one model.

        Returns
        -------
        DataFrame
            `CALL_COLUMNS`; ``deck`` is a number that opens nothing.
        """
        wanted = [_Deck.screen == screen] * (screen is not None) + [_Deck.model == model] * (model is not None)
        return self._calls(*wanted)

    def _calls(self, *wanted: sa.ColumnElement[bool]) -> pd.DataFrame:
        query = (
            sa.select(
                _Deck.id,
                _Rater.name,
                _Rater.expertise,
                _Deck.screen,
                _Deck.model,
                _Deck.held_out,
                _Deck.finished,
                _Card.position,
                _Card.cell_id,
                _Card.treatment,
                _Card.moa,
                _Card.synthetic,
                _Answer.called_real,
                _Answer.seconds,
            )
            .join_from(_Deck, _Rater)
            .join(_Card, _Card.deck_id == _Deck.id)
            .join(_Answer, sa.and_(_Answer.deck_id == _Card.deck_id, _Answer.position == _Card.position))
            .where(_Deck.finished.is_not(None), *wanted)
            .order_by(_Deck.id, _Card.position)
        )
        with self._session() as session:
            rows = [tuple(row) for row in session.execute(query)]
        table = pd.DataFrame(rows, columns=list(CALL_COLUMNS))
        return table.astype({SYNTHETIC: bool, CALLED_REAL: bool, "held_out": bool, "seconds": float})

    def unfinished(self) -> int:
        """How many decks are begun and not finished."""
        with self._session() as session:
            return int(session.scalar(sa.select(sa.func.count()).where(_Deck.finished.is_(None))) or 0)

    def cells_seen(self, rater: str, screen: str) -> frozenset[str]:
        """Cells of a screen that a rater has been dealt before, under whatever expertise."""
        return self._cells(_Rater.name == " ".join(rater.split()), _Deck.screen == screen)

    def cells_in_play(self, screen: str) -> frozenset[str]:
        """Cells of a screen that lie in unfinished decks: what other pages had better not show."""
        return self._cells(_Deck.finished.is_(None), _Deck.screen == screen)

    def _cells(self, *wanted: sa.ColumnElement[bool]) -> frozenset[str]:
        query = sa.select(_Card.cell_id).distinct().join(_Deck, _Deck.id == _Card.deck_id).join(_Rater).where(*wanted)
        with self._session() as session:
            return frozenset(session.scalars(query))


def _state(row: _Deck, answered: int) -> DeckState:
    return DeckState(
        rater=row.rater.name,
        expertise=row.rater.expertise,
        screen=row.screen,
        model=row.model,
        channels=tuple(row.channels),
        n_cards=row.n_cards,
        n_answered=answered,
        held_out=row.held_out,
        created=row.created,
    )


def _tune_sqlite(connection: Any, _: Any) -> None:
    """Readers do not wait for a writer; foreign keys hold."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _first_line(failed: BaseException) -> str:
    return str(getattr(failed, "orig", None) or failed).splitlines()[0]
