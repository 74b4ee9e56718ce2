"""The problems that `status` shows, as checks."""

from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.doctor.check import Check, Verdict, not_looked_at
from app.operator.standing import look
from app.problems import kinds
from app.problems.kinds import Severity
from app.settings import Settings

_VERDICTS = {Severity.WARNING: Verdict.WARNING, Severity.CRITICAL: Verdict.FAILED}
_EXAMINED_APART = (kinds.DURABILITY, kinds.REGISTRATION)
"""`doctor` has checks of its own for these, which say more."""


async def examine_problems(settings: Settings, engine: AsyncEngine) -> AsyncIterator[Check]:
    """A check for each problem; one that is ok where there is none."""
    try:
        async with engine.connect() as connection:
            standing = await look(connection, settings)
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        yield not_looked_at("problems", error)
        return
    is_clear = True
    for one in standing.found:
        problem = one.problem
        if problem.severity in _VERDICTS and problem.kind not in _EXAMINED_APART:
            is_clear = False
            about = f" ({problem.subject})" if problem.subject else ""
            reason = f"{problem.kind.title}{about}: {problem.words}"
            yield Check(problem.kind.name, _VERDICTS[problem.severity], reason, problem.kind.remedy)
    if is_clear:
        yield Check("problems", Verdict.OK, "none")
