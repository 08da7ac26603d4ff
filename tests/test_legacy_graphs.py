"""Graphs of TensorFlow 1, in this process and in one without v2 behaviour."""

import json
import os
import subprocess
import sys

import legacy_graphs
import pytest
from reference import assert_close


class TestSessions:
    @pytest.mark.thin
    @pytest.mark.parametrize("name, resource, static", legacy_graphs.CASES)
    def test_a_v1_graph_is_explained(self, name, resource, static):
        self.check(legacy_graphs.explain(name, resource, static), resource)

    @pytest.mark.parametrize("name", legacy_graphs.LOOPS)
    def test_a_loop_of_control_flow_v2_is_explained(self, name):
        self.check(legacy_graphs.explain(name, True, False))

    @pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
    def test_programs_without_v2_behavior_are_explained(self, every):
        script = os.path.join(os.path.dirname(__file__), "legacy_graphs.py")
        command = [sys.executable, script, str(every)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout.splitlines()[-1])
        for name, resource, static in legacy_graphs.cases(every):
            self.check(results["explained"][f"{name} {resource} {static}"], resource)
        # Loops are refused, and explained once the way out that the message names is taken.
        words = ("Enter", "enable_control_flow_v2", "linear_interpolation")
        assert all(word in results["while_loop"] for word in words), results["while_loop"]
        for result in results["loops"].values():
            self.check(result)

    @staticmethod
    def check(result, resource=None):
        assert isinstance(result, dict), result
        if resource is not None:
            assert result["variables"] == ["VarHandleOp" if resource else "VariableV2"]
        assert_close(result["gausslegendre"], result["expected"], 1e-10)
        # Branches and loops are taken as a whole: their sums tend to the change.
        assert_close(result["secant"], result["change"], 1e-10 if result["exact"] else 5e-2)
