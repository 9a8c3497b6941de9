# SPDX-License-Identifier: GPL-2.0-only
"""A kernel without the hooks for the stacks of faults."""

from unittest.mock import Mock

from shadow.errors import UnsupportedHostError
from tracer.probes.sources import Backend
from tracer.probes.stack_sampling import StackSampling


def _sampling(attach: Mock) -> StackSampling:
    program = Mock(attach=attach)
    attachments = Mock(by_source={"page fault": Mock(backend=Backend.FENTRY)})
    return StackSampling(program, attachments, 1 << 20)


def test_it_says_why_faults_have_no_stacks() -> None:
    refused = Mock(side_effect=UnsupportedHostError("This kernel has no such tracepoint."))
    assert _sampling(refused).without_faults == (
        "Faults have no stacks. This kernel has no such tracepoint."
    )


def test_faults_have_stacks_where_the_hooks_attach() -> None:
    assert _sampling(Mock()).without_faults is None
