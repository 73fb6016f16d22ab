"""A file of the user's own replaces functions of the kernel, and nothing of it stays behind."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import shared
import shared.scenario.steps.table
from cluster.runs.token import kernel_version, parse, refuse_mismatch
from cluster.search.explore import explore
from cluster.search.strategy import Stay
from cluster.search.survey import survey
from nodes.mmu import Mmu
from shared.errata import ERRATA
from shared.errors import UserMistake
from shared.patch import SEAMS, applied, current, original, read
from tests.kit import run_recorded, scenario

UVM = Path(shared.__file__).parent / "uvm"
HEAD = "from shared.patch import declares, original, replaces\nfrom shared.port.port import erratum\n"
COPY = (
    HEAD
    + """from shared.uvm.param import PG_CLEAN

declares("uvm_pagecopy.forgets", "uvm_pagecopy() leaves the frame as it was.")

@replaces("uvm_pagecopy")
def uvm_pagecopy(src, dst):
    if erratum("uvm_pagecopy.forgets"):
        dst.flags &= ~PG_CLEAN
    else:
        original("uvm_pagecopy")(src, dst)
"""
)
#: hides what S3a shows behind another assertion, and copies nothing
OWN = (
    HEAD
    + """from shared.uvm.param import PG_CLEAN
@replaces("uvm_anfree")
def uvm_anfree(anon):
    if anon.an_lock.held():
        anon.an_lock.unlock()
    original("uvm_anfree")(anon)

@replaces("uvm_pagecopy")
def uvm_pagecopy(src, dst):
    dst.flags &= ~PG_CLEAN
"""
)


def test_what_is_replaced_is_called_by_all_and_is_back_afterwards() -> None:
    scene = scenario("S3a").without_errata()
    as_it_is = run_recorded(scene, Stay()).digest
    with applied(read(COPY, "copy.py")):
        assert run_recorded(scene, Stay()).digest == as_it_is  # the defect is off, and nothing else was changed
        broken = scene.with_errata(["uvm_pagecopy.forgets"])
        sites = run_recorded(broken, Stay()).sites
        assert sites["uvm_pagecopy.forgets"] > 0
    assert current() is None and run_recorded(scene, Stay()).digest == as_it_is


def test_a_declared_defect_is_found_and_is_none_without_the_patch() -> None:
    scene = scenario("S3a").without_errata()
    with applied(read(COPY, "copy.py")):
        result = explore(scene.with_errata(["uvm_pagecopy.forgets"]))
        assert result.finding is not None and result.finding.kind == "oracle"
        assert ERRATA["uvm_pagecopy.forgets"].source == ("copy.py",)
    with pytest.raises(UserMistake, match="there is no erratum"):
        scene.with_errata(["uvm_pagecopy.forgets"])


def test_a_patch_is_of_the_kernels_version_and_its_comments_are_not() -> None:
    own = kernel_version()
    scene = scenario("S3a")
    with applied(read(COPY, "copy.py")):
        token = explore(scene).token
        patched = kernel_version()
    assert patched != own and token is not None
    with pytest.raises(UserMistake, match=f"made on kernel {patched}, this is kernel {own}"):
        refuse_mismatch(parse(str(token)), scene)
    with applied(read(COPY + "# a remark\n", "copy.py")):
        assert kernel_version() == patched
    with applied(read(OWN, "own.py")):
        assert kernel_version() not in (own, patched)


def test_a_node_has_operations_that_can_be_replaced() -> None:
    before = vars(Mmu)["op_pmap_enter"]
    text = (
        HEAD
        + """
@replaces("Mmu.op_pmap_enter")
def op_pmap_enter(self, *args):
    raise LookupError("none of ours")
"""
    )
    signature = "(" + ", ".join(inspect.signature(before).parameters) + ")"
    patch = read(text.replace("(self, *args)", signature), "node.py")
    with applied(patch), pytest.raises(UserMistake, match=r"node\.py:6.*LookupError: none of ours"):
        run_recorded(scenario("S3a"), Stay())
    assert vars(Mmu)["op_pmap_enter"] is before


def test_an_error_of_the_patchs_own_names_its_line() -> None:
    text = HEAD + "\n@replaces('uvm_pagecopy')\ndef uvm_pagecopy(src, dst):\n    src.no_such_field\n"
    with applied(read(text, "mine.py")), pytest.raises(UserMistake) as wrong:
        run_recorded(scenario("S3a"), Stay())
    assert (wrong.value.file, wrong.value.line) == ("mine.py", 6)


ZERO = "@replaces('uvm_pagezero')\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("def x(:\n", 1, "is not valid Python"),
        ("import os\n", 1, "replaces no function and declares no erratum"),
        ("\n1 / 0\n", 2, "cannot be run: ZeroDivisionError"),
        (f"{HEAD}@replaces('uvm_pagezro')\ndef x(pg): ...\n", 3, "did you mean uvm_pagezero"),
        (
            f"{HEAD}@replaces('Mmu.op_pmap_entr')\ndef x(self): ...\n",
            3,
            "of a node.*class.*method.*mean Mmu.op_pmap_enter",
        ),
        (f"{HEAD}@replaces('Q.zz')\ndef x(self): ...\n", 3, "of a node.*instance 'Mmu.op_pmap_enter'$"),
        (f"{HEAD}{ZERO}def x(page, n): ...\n", 3, r"takes \(pg\); its replacement takes \(page, n\)"),
        (f"{HEAD}{ZERO}def x(pg): ...\n{ZERO}def y(pg): ...\n", 5, "twice"),
        (f"{HEAD}declares('forgets', 'It forgets.')\n", 3, "expected the id of an erratum"),
        (f"{HEAD}declares('amap_cow_now.nanon-freed-locked', 'Again.')\n", 3, "already"),
        (f"{HEAD}declares('x.y', '')\n", 3, "expected the defect of x.y in one sentence; found ''"),
        (f"{HEAD}\ndeclares('x.y', ' \\n')\n", 4, "in one sentence"),
        (f"{HEAD}original('uvm_pagezero')\n", 3, "is not replaced"),
    ],
)
def test_a_patch_that_is_wrong_is_refused(text: str, line: int, said: str) -> None:
    with pytest.raises(UserMistake, match=said) as wrong:
        read(text, "mine.py")
    assert wrong.value.file == "mine.py" and wrong.value.line == line


def test_a_patch_that_is_only_imported_says_what_it_is() -> None:
    with pytest.raises(UserMistake, match="give it to --patch"):
        exec(COPY, {})
    with pytest.raises(UserMistake, match="no original"):
        original("uvm_pagezero")


def test_every_marked_function_of_the_kernel_can_be_replaced() -> None:
    functions = [
        function
        for file in UVM.glob("*.py")
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
    ]
    marked = [
        function.name
        for function in functions
        if any("kernel(" in ast.unparse(mark) for mark in function.decorator_list)
    ]
    assert len(marked) > 100 and sorted(marked) == sorted(name for name in SEAMS if "." not in name)


def test_a_survey_says_what_a_patch_changes() -> None:
    rows = {(row.scenario, row.kernel): row for row in survey(read(OWN, "own.py"), 0, 20, 2, ("S3a", "E1"))}
    assert len(rows) == 4
    repaired = rows["S3a", "errata"]
    assert repaired.changed and repaired.before.signature[0] == "locked-anon-freed"
    assert not repaired.worse and repaired.after.signature[0] == "kassert"
    broken = rows["S3a", "repaired"]
    assert broken.worse and broken.after.signature[0] == "oracle"
    assert current() is None
