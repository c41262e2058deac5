"""Steps: what a checkpoint counts, its metadata or its name tell, and in which unit."""

from __future__ import annotations

import pytest

from carver.identify.models import assemble
from carver.identify.steps import told_step
from tests.carver.made_models import a_file, llama, tensors


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"counters": {"global_step": 640, "epoch": 2}, "name": "checkpoint-5"}, (640, "steps", "global_step in the")),
        ({"counters": {"optimizer.state.0.step": 7}}, (7, "steps", "optimizer.state.0.step in the checkpoint")),
        ({"counters": {"meta.epoch": 3}}, (3, "epochs", "meta.epoch in the checkpoint")),
        ({"counters": {"save_counter": 4}}, (4, "saves", "save_counter in the checkpoint")),
        ({"metadata": {"ss_steps": "1600", "ss_epoch": "10"}}, (1600, "steps", "ss_steps in its metadata")),
        ({"metadata": {"ss_epoch": "10", "step": "x"}}, (10, "epochs", "ss_epoch in its metadata")),
        ({"name": "epoch=3-step=1200", "name_source": "zip root"}, (1200, "steps", "zip root")),
        ({"name": "net-epoch7"}, (7, "epochs", "contents")),
    ],
)
def test_a_step_has_its_unit_and_its_source(facts, told):
    step = told_step(facts)
    assert step is not None
    assert (step.count, step.unit) == told[:2] and step.source.startswith(told[2])


@pytest.mark.parametrize("facts", [{}, {"counters": {}}, {"metadata": 5}, {"metadata": {"step": 5}}, {"name": "net"}])
def test_what_tells_no_step_tells_none(facts):
    assert told_step(facts) is None


def at(path: str, **counters: int) -> object:
    return a_file(f"files/{path}", tensors(llama()), facts={"counters": counters})


def test_steps_are_not_put_in_an_order_with_epochs():
    models = assemble([at("c", global_step=900), at("a", epoch=5), at("b", global_step=300)], [])
    assert models[0].versions == ("files/a", "files/b")
    ordered = assemble([at("c", global_step=900), at("a", global_step=500), at("b", global_step=300)], [])
    assert ordered[0].versions == ("files/b", "files/a")
