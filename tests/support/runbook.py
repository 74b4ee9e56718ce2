"""docs/runbook.md as a person walks it: the numbered steps of each section, with the commands in them as they are printed."""

import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from app.problems.kinds import BY_NAME, EXIT_STATUS
from tests.support.commands import Run
from tests.support.world import World

PAGE = Path(__file__).parents[2] / "docs/runbook.md"
ANY_STATUS = (0, *sorted(set(EXIT_STATUS.values()) - {0}))
"""What `status` and `doctor` end with"""
_STEP = re.compile(r"^(\d+)\. (.*(?:\n   .*)*)", re.MULTILINE)
_COMMAND = re.compile(r"`((?:pos-sync|SELECT) [^`]+)`")
_PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")


def steps_of(section: str) -> dict[int, list[str]]:
    """The commands of each numbered step, in their order; none of a step that is done by hand."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    return {int(number): _COMMAND.findall(" ".join(words.split())) for number, words in _STEP.findall(text)}


def sections() -> list[str]:
    """Those that are named after a problem."""
    return [name for name in re.findall(r"^## (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) if name in BY_NAME]


@dataclass
class Walk:
    """A walk through one section: every step has to be taken, and every command of it run."""

    section: str
    run: Run
    world: World
    _taken: Counter[tuple[int, str]] = field(default_factory=Counter)

    async def take(self, step: int, *, part: int | None = None, ends: tuple[int, ...] = (0,), **values: str) -> str:
        """Run the commands of `step`, or the one at `part`, with `values` for the words in capitals; what the last printed."""
        commands = steps_of(self.section)[step]
        output = ""
        for command in commands if part is None else [commands[part]]:
            if command.startswith("SELECT"):
                await self.world.execute(_PLACEHOLDER.sub(lambda found: values.get(found[0].lower(), found[0]), command))
            else:
                words = [values[word.lower()] if _PLACEHOLDER.fullmatch(word) else word for word in shlex.split(command)]
                ended = await self.run(*words[1:])
                allowed = ANY_STATUS if command in ("pos-sync status", "pos-sync doctor") else ends
                assert ended.exit_code in allowed, f"{self.section} {step}: {command}\n{ended.output}"
                output = ended.output
            self._taken[step, command] += 1
        return output

    def by_hand(self, step: int) -> None:
        """The test does this step itself: it has no command, or one that would not end."""
        assert set(steps_of(self.section)[step]) <= {"pos-sync serve"}, f"{self.section} {step} names a command"
        self._taken[step, ""] += 1

    def end(self) -> None:
        """Nothing that is printed may be left out."""
        wanted = {
            (step, command)
            for step, commands in steps_of(self.section).items()
            for command in commands
            if command != "pos-sync serve"
        }
        by_hand = {(step, "") for step, commands in steps_of(self.section).items() if not set(commands) - {"pos-sync serve"}}
        assert wanted | by_hand == set(self._taken), self.section
