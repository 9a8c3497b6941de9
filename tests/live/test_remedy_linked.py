# SPDX-License-Identifier: GPL-2.0-only
"""The remedy linked into a program with a jemalloc of its own."""

import subprocess
from pathlib import Path

import pytest

from tools.corpus import STATIC_JEMALLOC
from tools.remedy.build import built_archive

_SOURCES = Path(__file__).parents[2] / "tools" / "remedy"
_MAIN = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "extent_hooks.h"
#include "remedy.h"

int mallctl(const char *, void *, size_t *, void *, size_t);
static extent_hooks_t own;

static void *in_thread(void *_) {
    ptescope_remedy_thread();
    return malloc(1);
}

static extent_hooks_t *replace_hooks(void) {
    extent_hooks_t *now, *new = &own;
    size_t size = sizeof(now);
    mallctl("arena.0.extent_hooks", &now, &size, NULL, 0);
    own = *now;
    mallctl("arena.0.extent_hooks", NULL, NULL, &new, sizeof(new));
    return now;
}

int main(int argc, char **argv) {
    extent_hooks_t *kept;
    size_t size = sizeof(kept);
    pthread_t thread;
    if (argc > 1)
        replace_hooks();
    int state = ptescope_remedy_start();
    pthread_create(&thread, NULL, in_thread, argv);
    pthread_join(thread, NULL);
    for (int round = 0; round < 50; round++) {
        char *blocks[64];
        for (int i = 0; i < 64; i++)
            memset(blocks[i] = malloc(300000), 7, 300000);
        for (int i = 0; i < 64; i++)
            free(blocks[i]);
    }
    mallctl("arena.0.extent_hooks", &kept, &size, NULL, 0);
    const struct ptescope_remedy_counters *done = ptescope_remedy_counters();
    printf("%d %d %d %d\\n", state, kept == &own, (int)done->arenas, done->swept > 0);
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("linked")
    (folder / "main.c").write_text(_MAIN)
    libraries = [built_archive(folder, prefix=""), str(STATIC_JEMALLOC), "-lm", "-pthread", "-ldl"]
    made = str(folder / "program")
    compiler = ["gcc", f"-I{_SOURCES}", "-o", made, str(folder / "main.c")]
    subprocess.run([*compiler, *libraries], check=True)
    return made


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ([], "dirty_decay_ms:0,oversize_threshold:0", "1 0 2 1"),
        (["own hooks"], "dirty_decay_ms:0,oversize_threshold:0", "1 1 1 0"),
        (["own hooks"], "dirty_decay_ms:0,oversize_threshold:0,narenas:1", "9 1 0 0"),
    ],
)
def test_it_takes_all_arenas_but_those_with_hooks_of_the_program(
    program: str, arguments: list[str], settings: str, said: str
) -> None:
    """The state, whether arena 0 kept the program's hooks, arenas, whether slots were swept."""
    done = subprocess.run(
        [program, *arguments], env={"MALLOC_CONF": settings}, capture_output=True, text=True
    )
    assert done.stdout == f"{said}\n", done.stderr
