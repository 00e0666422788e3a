"""Does a model memorise what it was trained on? Tests with a stated level, of a run or of samples alone.

`engine` calls the rest: what is given becomes comparable (`material`), examples become points (`space`), and each test
has its file (`neighbours`, `closer`, `membership`, `singling`), as have the figures that explain (`duplicates`, `gap`,
`tables`). `verdict` puts the findings together, and `drawn` draws them.
"""

from reverie.audit.engine import Hands, audit_run, audit_sets
from reverie.audit.findings import Audit, Copy, Duplicates, Finding, Histogram, LeftOut, Level, Verdict, read
from reverie.audit.settings import Settings

__all__ = [
    "Audit",
    "Copy",
    "Duplicates",
    "Finding",
    "Hands",
    "Histogram",
    "LeftOut",
    "Level",
    "Settings",
    "Verdict",
    "audit_run",
    "audit_sets",
    "read",
]
