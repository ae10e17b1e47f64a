"""The pages under *Look up* that are made from the code: verbs from the command line, columns from the schema."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def verbs(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every verb below a command, as one types it."""
    below = getattr(command, "commands", {})
    for name, one in below.items():
        yield from verbs(one, (*words, name))
    if not below:
        yield " ".join(words), command


def cell(text: str) -> str:
    """A text as it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def told(parameter: Any) -> str:
    """What an option says of itself, with its default."""
    shown = getattr(parameter, "show_default", None)
    default = shown if isinstance(shown, str) else parameter.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    needed = " Required." if parameter.required and parameter.param_type_name == "option" else ""
    given = f" Default: {getattr(default, 'value', default)}." if plain else ""
    return f"{(parameter.help or '').strip()}{needed}{given}"


def name_of(argument: Any) -> str:
    """What an argument is called in a usage line."""
    return str(argument.metavar or argument.name).strip("[].").upper()


def page_of(verb: str, command: Any) -> str:
    """One verb in Markdown."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    shown = " ".join(name_of(p) + "..." * (p.nargs == -1) for p in arguments)
    lines = [f"## {verb}", "", inspect.cleandoc(command.help or "").replace("\b", ""), ""]
    lines += ["```text", f"cytovae {verb} {shown} [options]", "```", ""]
    if any(getattr(p, "help", None) for p in arguments):
        lines += ["| argument | is |", "|---|---|"]
        lines += [f"| `{name_of(p)}` | {cell(p.help or '')} |" for p in arguments]
        lines.append("")
    if options:
        lines += ["| option | does |", "|---|---|"]
        for p in options:
            names = ", ".join(f"`{name}`" for name in (*p.opts, *p.secondary_opts))
            lines.append(f"| {names} | {cell(told(p))} |")
        lines.append("")
    if epilog := getattr(command, "epilog", None):
        lines += ["```text", inspect.cleandoc(epilog).replace("\b", "").replace("\n\n", "\n").strip(), "```", ""]
    return "\n".join(lines)


class Markdown(SphinxDirective):
    """Text that the code gives, read as Markdown."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.text(), allow_section_headings=True)

    def text(self) -> str:
        raise NotImplementedError


class Verbs(Markdown):
    """Every verb with its arguments and options."""

    def text(self) -> str:
        import typer

        from cytovae.cli import verbs as cli

        return "\n".join(page_of(verb, command) for verb, command in verbs(typer.main.get_command(cli.app)))


class Columns(Markdown):
    """The columns of a screen's tables, each with what the schema says."""

    def text(self) -> str:
        from cytovae import schema

        lines = ["| column | constant | cells | fields |", "|---|---|---|---|"]
        source = inspect.getsource(schema)
        constants = dict(re.findall(r'^([A-Z_]+) = "([A-Za-z_]+)"$', source, flags=re.M))
        for constant, column in constants.items():
            if not hasattr(schema, constant) or constant == "UNKNOWN_MOA":
                continue
            marks = ["x" if column in table else "" for table in (schema.CELL_COLUMNS, schema.FIELD_COLUMNS)]
            lines.append(f"| `{column}` | `schema.{constant}` | {' | '.join(marks)} |")
        return "\n".join(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("verbs", Verbs)
    app.add_directive("columns", Columns)
    return {"version": "1", "parallel_read_safe": True}
