"""Where decks and answers are kept: any database SQLAlchemy speaks to, SQLite by default, PostgreSQL by URL.

Truth, order and pictures of a deck lie in the database and leave it one picture at a time. A deck is known to its rater
by an unguessable token, the link to resume it; whoever lists results sees numbers, never tokens. An answer is
committed before the next card can be read, and cannot be given twice. A deck that is not finished ends `OPEN_HOURS`
after it was dealt, or when its rater closes it: it takes no more answers, counts for nothing, and its cells are free.
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
from cytovae.quiz.deck import SYNTHETIC, Deck, DeckProtocol
from cytovae.quiz.score import CALLED_REAL, RATER

EXPERTISE = ("Cell biologist", "Microscopist", "Other biologist", "Image analyst", "None of these")
"""What a rater may say of themselves."""

POOL, RATERS_AT_ONCE = 5, 50
"""Connections to the database that are kept, and the most there are at once."""
OPEN_HOURS = 24
"""How long a deck can be answered, from the moment it was dealt (hours)."""

CALL_COLUMNS = (
    "deck",
    RATER,
    "expertise",
    "screen",
    "model",
    "held_out",
    "protocol",
    "hidden_px",
    "finished",
    "position",
    schema.CELL_ID,
    schema.TREATMENT,
    schema.MOA,
    SYNTHETIC,
    CALLED_REAL,
    "seconds",
)
"""Columns of a table of calls; ``seconds`` is how long the card was looked at (s), nan where not known; ``protocol``
and ``hidden_px`` are those of `DeckOptions`."""


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


class _Closed(_Base):
    __tablename__ = "closed"
    deck_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("decks.id"), primary_key=True)
    closed: orm.Mapped[dt.datetime] = orm.mapped_column(sa.DateTime(timezone=True))


class _Permission(_Base):
    __tablename__ = "permissions"
    name: orm.Mapped[str] = orm.mapped_column(sa.String(200), primary_key=True)
    given: orm.Mapped[dt.datetime] = orm.mapped_column(sa.DateTime(timezone=True))


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
    protocol : DeckProtocol
        How its cards are drawn.
    hidden_px : int
        Distance of the round window from the edges of the patch (px).
    closed : bool
        Whether its rater gave it up.
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
    protocol: DeckProtocol
    hidden_px: int
    closed: bool

    @property
    def finished(self) -> bool:
        """Whether all cards are answered."""
        return self.n_answered >= self.n_cards

    @property
    def open_until(self) -> dt.datetime:
        """The moment from which it takes no more answers, UTC."""
        return self.created + dt.timedelta(hours=OPEN_HOURS)

    @property
    def ended(self) -> bool:
        """Whether it takes no more answers though cards are left."""
        return not self.finished and (self.closed or _now() >= self.open_until)


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
            self._engine = sa.create_engine(
                parsed, connect_args=waits, pool_pre_ping=not lite, pool_size=POOL, max_overflow=RATERS_AT_ONCE - POOL
            )
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
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as failed:
            raise QuizError(
                f"the quiz database {self.where} does not answer ({_first_line(failed)}); every answer that was taken "
                "is kept, try again"
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

    def may_keep(self, name: str) -> bool:
        """Whether somebody of this name has agreed that it is kept and listed."""
        with self._session() as session:
            return session.get(_Permission, " ".join(name.split())) is not None

    def keep_name(self, name: str) -> None:
        """Keep that somebody of this name has agreed; saying so again changes nothing."""
        if not self.may_keep(name):
            with contextlib.suppress(sa.exc.IntegrityError), self._session() as session:  # said twice at once
                session.add(_Permission(name=" ".join(name.split()), given=_now()))

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
            return self._state(session, *self._find(session, token))

    def end(self, token: str) -> None:
        """Give up a deck that is not finished: it takes no more answers, and its cells are free.

        Raises
        ------
        QuizError
            There is no such deck, it is finished, or it has ended already.
        """
        with self._session() as session:
            row, answered = self._find(session, token)
            if answered >= row.n_cards:
                raise QuizError(f"all {row.n_cards} cards of this deck are answered; there is nothing to close")
            self._refuse_ended(session, row, answered)
            session.add(_Closed(deck_id=row.id, closed=_now()))
            try:
                session.flush()
            except sa.exc.IntegrityError:  # closed in two windows at once
                raise QuizError("this quiz was closed by its rater already") from None

    @staticmethod
    def _state(session: orm.Session, row: _Deck, answered: int) -> DeckState:
        return DeckState(
            rater=row.rater.name,
            expertise=row.rater.expertise,
            screen=row.screen,
            model=row.model,
            channels=tuple(row.channels),
            n_cards=row.n_cards,
            n_answered=answered,
            held_out=row.held_out,
            created=_utc(row.created),
            protocol=_protocol(row.options),
            hidden_px=_hidden_px(row.options),
            closed=session.get(_Closed, row.id) is not None,
        )

    def _refuse_ended(self, session: orm.Session, row: _Deck, answered: int) -> None:
        state = self._state(session, row, answered)
        if state.ended:
            how = "was closed by its rater" if state.closed else f"was open until {day(state.open_until)}"
            raise QuizError(
                f"this quiz {how}, with {answered} of {row.n_cards} cards answered; it counts for nothing, start a new "
                "one"
            )

    def card(self, token: str) -> Card:
        """The card to answer now.

        Raises
        ------
        QuizError
            There is no such deck, all of its cards are answered, or it has ended.
        """
        with self._session() as session:
            row, answered = self._find(session, token)
            if answered >= row.n_cards:
                raise QuizError(f"all {row.n_cards} cards of this deck are answered; look at its result")
            self._refuse_ended(session, row, answered)
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
            There is no such deck, the card is answered already, it is not its turn, or the deck has ended.
        """
        with self._session() as session:
            row, answered = self._find(session, token)
            if answered < row.n_cards:
                self._refuse_ended(session, row, answered)
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
            return self._state(session, row, answered + 1)

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
                self._refuse_ended(session, row, answered)
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
                _Deck.options,
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
            rows = [(*row[:6], str(_protocol(row[6])), _hidden_px(row[6]), *row[7:]) for row in session.execute(query)]
        table = pd.DataFrame(rows, columns=list(CALL_COLUMNS))
        return table.astype({SYNTHETIC: bool, CALLED_REAL: bool, "held_out": bool, "seconds": float})

    def unfinished(self) -> int:
        """How many decks are begun and not finished, those that have ended among them."""
        with self._session() as session:
            return int(session.scalar(sa.select(sa.func.count()).where(_Deck.finished.is_(None))) or 0)

    def open_decks(self) -> list[DeckState]:
        """The decks that still take answers, the oldest first; nothing in them opens one."""
        answered = sa.select(sa.func.count()).where(_Answer.deck_id == _Deck.id).correlate(_Deck).scalar_subquery()
        query = sa.select(_Deck, answered).where(*_still_open()).order_by(_Deck.created, _Deck.id)
        with self._session() as session:
            return [self._state(session, row, int(n)) for row, n in session.execute(query).all()]

    def cells_seen(self, rater: str, screen: str) -> frozenset[str]:
        """Cells of a screen that a rater has been dealt before, under whatever expertise."""
        return self._cells(_Rater.name == " ".join(rater.split()), _Deck.screen == screen)

    def cells_in_play(self, screen: str) -> frozenset[str]:
        """Cells of a screen that lie in decks still open: what other pages had better not show."""
        return self._cells(*_still_open(), _Deck.screen == screen)

    def _cells(self, *wanted: sa.ColumnElement[bool]) -> frozenset[str]:
        query = sa.select(_Card.cell_id).distinct().join(_Deck, _Deck.id == _Card.deck_id).join(_Rater).where(*wanted)
        with self._session() as session:
            return frozenset(session.scalars(query))


def day(moment: dt.datetime) -> str:
    """A moment in words, such as ``1 December 2026, 14:05 UTC``."""
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def alias() -> str:
    """A name for a rater who does not want theirs kept."""
    return f"Rater {secrets.token_hex(3).upper()}"


def _still_open() -> tuple[sa.ColumnElement[bool], ...]:
    """What is true of decks that take answers."""
    return (
        _Deck.finished.is_(None),
        _Deck.created > _now() - dt.timedelta(hours=OPEN_HOURS),
        ~sa.exists().where(_Closed.deck_id == _Deck.id),
    )


def _protocol(options: dict[str, Any]) -> DeckProtocol:
    """Of decks as old as the first release nothing is noted: all were matched."""
    return DeckProtocol(options.get("protocol", DeckProtocol.MATCHED))


def _hidden_px(options: dict[str, Any]) -> int:
    return int(options.get("hidden_px", 0))


def _tune_sqlite(connection: Any, _: Any) -> None:
    """Readers do not wait for a writer; foreign keys hold."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _utc(stored: dt.datetime) -> dt.datetime:
    """A moment as the database gives it back; SQLite forgets the zone of what was UTC."""
    return stored.replace(tzinfo=dt.UTC) if stored.tzinfo is None else stored.astimezone(dt.UTC)


def _first_line(failed: BaseException) -> str:
    return str(getattr(failed, "orig", None) or failed).splitlines()[0]
