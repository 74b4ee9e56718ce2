"""What the documents name exists: modules, classes, functions, commands and options."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from app.cli.program import commands

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("proof/*.md")])
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
HOPS = sorted(set(re.findall(r"`(app[\w.]*:[\w.]+)`", ARCHITECTURE)))
MAX_HOPS_OF_A_DELIVERY = 8
_ROW = re.compile(r"\s*\|.*\|\s*")
_DELIMITER = re.compile(r"\s*\|[\s:|-]+\|\s*")


def rows_of_walk(number: int) -> list[str]:
    walk = ARCHITECTURE.split(f"## Walk {number}:")[1].split("\n## ")[0]
    return re.findall(r"^\| \d+ \| .*$", walk, re.MULTILINE)


@pytest.mark.parametrize("hop", HOPS)
def test_every_hop_of_a_walk_exists(hop: str) -> None:
    module, _, name = hop.partition(":")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)


def test_there_are_five_walks_and_a_delivery_is_the_shortest_that_it_can_be() -> None:
    assert all(len(rows_of_walk(number)) > 5 for number in (1, 2, 3, 4, 5))
    assert len(rows_of_walk(1)) <= MAX_HOPS_OF_A_DELIVERY


def named_commands() -> list[tuple[str, str]]:
    """(place, command line) of each `pos-sync ...` in documents, and in the messages and help of the code."""
    # The changelog names what is no more.
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    places = [*pages, *ROOT.glob("app/**/*.py"), ROOT / ".env.example", ROOT / "docker-compose.yml"]
    return [
        (str(place.relative_to(ROOT)), line)
        for place in places
        for line in re.findall(r"pos-sync ((?:[a-z]+ ?)+(?:[^`\n\"]*))", place.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("place", "line"), sorted(set(named_commands())))
def test_every_command_and_option_that_is_named_exists(place: str, line: str) -> None:
    context = click.Context(commands, info_name="pos-sync")
    command: click.Command = commands
    words = line.split()
    while words and isinstance(command, click.Group):
        word = words[0].strip(",.;:)`'")
        found = command.get_command(context, word)
        if found is None and command is not commands and not word.isalpha():
            return
        assert found is not None, f"{place}: there is no command pos-sync {line}"
        command, words = found, words[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    # Only what belongs to this command: what follows a separator is another one, or prose.
    for word in words:
        if re.search(r"[;|(&#]", word):
            break
        option = re.match(r"--[a-z][a-z-]+", word)
        if option:
            assert option[0] in options, f"{place}: pos-sync {line}"


def commands_of_the_page() -> list[str]:
    """Each command that a page shows, with some value in the place of each of its own."""
    texts = [page.read_text(encoding="utf-8") for page in ROOT.glob("app/page/templates/*.html")]
    found = [line for text in texts for line in re.findall(r"<code>pos-sync ([^<]*)</code>", text)]
    return sorted({re.sub(r"\{\{.*?\}\}", "1", line) for line in found})


def named_by(words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and what is left for it."""
    context, command, left = click.Context(commands, info_name="pos-sync"), commands, [*words]
    # One that has commands may do something alone too.
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        found = command.get_command(context, left.pop(0))
        assert found is not None, f"there is no command pos-sync {shlex.join(words)}"
        command = found
    return command, left


@pytest.mark.parametrize("line", commands_of_the_page())
def test_every_command_of_the_page_can_be_typed_as_it_is_shown(line: str) -> None:
    command, words = named_by(line.split())
    context = click.Context(command, info_name=line)
    # Raises where an option does not exist, or has too few values.
    given, superfluous, _ = command.make_parser(context).parse_args(words)
    required = [one for one in command.params if one.required]
    assert [] == [one.name for one in required if one.value_is_missing(one.consume_value(context, given)[0])]
    assert [] == superfluous


VALUE = "VALUE"
"""What stands in the place of a value in a message"""
_FILLED_IN = {VALUE, f"capture {VALUE} --json"}
"""What names a deployment, and a command that is filled in"""
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")
_END = re.compile(r"[\n`;|]|[.,:)]+(?= |$)| {2,}")


def strings_of(tree: ast.AST) -> Iterator[str]:
    """Each string of a module, put together as it is read; `VALUE` stands for what is filled in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        else:
            yield from strings_of(node)


def remedies(source: str) -> list[str]:
    """Each command line in the strings of a module that names a value, as a placeholder or filled in; without `pos-sync`."""
    lines = [
        _END.split(line.replace("%(", VALUE).replace(")s", ""))[0].strip(" '\"")
        for text in strings_of(ast.parse(source))
        for line in text.split("pos-sync ")[1:]
    ]
    return [line for line in lines if any(_PLACEHOLDER.fullmatch(word) for word in line.split()) and line not in _FILLED_IN]


def faults_in(line: str) -> list[str]:
    """What a shell and the program would not take: an option without its values, a missing or superfluous argument."""
    command, words = named_by(line.split())
    try:
        given, superfluous, _ = command.make_parser(click.Context(command, info_name=line)).parse_args([*words])
    except click.UsageError as error:
        return [error.format_message()]
    context = click.Context(command)
    required = [one for one in command.params if one.required]
    missing = [one.name or "" for one in required if one.value_is_missing(one.consume_value(context, given)[0])]
    return [*missing, *superfluous]


def test_a_remedy_that_nobody_can_type_is_found() -> None:
    source = """message = (
        f"Connect it with: pos-sync store set {one} "
        "--connect SYSTEM"
    )"""
    (line,) = remedies(source)
    assert ("store set VALUE --connect SYSTEM", ["Option '--connect' requires 2 arguments."]) == (line, faults_in(line))
    assert ["sync --store STORE"] == remedies("'Run pos-sync sync --store STORE, or pos-sync sync.'")
    assert ["store_id"] == faults_in("catalog import FILE")


REMEDIES = [
    pytest.param(line, id=f"{place.relative_to(ROOT)}: {line}")
    for place in sorted(ROOT.glob("app/**/*.py"))
    for line in sorted({*remedies(place.read_text(encoding="utf-8"))})
]


@pytest.mark.parametrize("line", REMEDIES)
def test_every_remedy_with_a_value_can_be_typed(line: str) -> None:
    assert [] == faults_in(line)


def every_command(command: click.Command = commands, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command and each of its own, by the words that name it; `pos-sync` alone is none."""
    if path:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from every_command(found, *path, name)


def examples_of(command: click.Command) -> list[str]:
    """The lines after `Example:` in its help."""
    lines = (command.help or "").partition("Example:")[2].replace("Example:", "").splitlines()
    return [line.strip() for line in lines if line.strip()]


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=" ".join(one[0])) for one in every_command()])
def test_every_example_of_the_help_is_of_its_command_and_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], command: click.Command
) -> None:
    # The files that examples name are nowhere.
    monkeypatch.setattr(click.Path, "convert", lambda _type, value, _parameter, _context: value)
    examples = examples_of(command)

    assert examples
    for example in examples:
        variables, _, line = example.partition("pos-sync ")
        words = shlex.split(line.partition(" > ")[0])
        assert re.fullmatch(r"([A-Z_]+=\S+ )*", variables), example
        assert [*path] == words[: len(path)], example
        called, left = named_by(words)
        # Raises where an option does not exist or its value is none for it, and where arguments are missing or too many.
        called.make_context(example, left)


def cut_tables(text: str) -> list[str]:
    """The first row of each group of rows that is no table, since it has no header and delimiter of its own."""
    lines = ["", *text.splitlines(), ""]
    starts = [n for n in range(1, len(lines)) if _ROW.fullmatch(lines[n]) and not _ROW.fullmatch(lines[n - 1])]
    return [lines[n] for n in starts if not _DELIMITER.fullmatch(lines[n + 1])]


def test_rows_behind_an_empty_line_are_found() -> None:
    assert [] == cut_tables("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert ["| 3 | 4 |"] == cut_tables("| a | b |\n|---|--:|\n| 1 | 2 |\n\n| 3 | 4 |")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_table_is_cut(page: Path) -> None:
    assert [] == cut_tables(page.read_text(encoding="utf-8"))
