// SPDX-License-Identifier: GPL-2.0-only
// Start the remedy, or say why it does nothing.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parts.h"

static struct remedy_options options;
static struct remedy_jemalloc jemalloc;
static atomic_bool hooked;

static bool is_true(const char *name) {
    bool value = false;
    size_t size = sizeof(value);
    return !jemalloc.mallctl(name, &value, &size, NULL, 0) && value;
}

static bool is_jemalloc_5(void) {
    const char *version;
    size_t size = sizeof(version);
    return !jemalloc.mallctl("version", &version, &size, NULL, 0) && !strncmp(version, "5.", 2);
}

// Whether guard pages are asked for, in any of the places where jemalloc reads its settings. With
// other hooks than its own it does not remove a guard page any more (ehooks.h, ehooks_unguard).
static bool has_guards(void) {
    char link[4096] = "";
    const char *built_in = NULL, *environment = getenv(jemalloc.conf_variable);
    size_t size = sizeof(built_in);
    jemalloc.mallctl("config.malloc_conf", &built_in, &size, NULL, 0);
    if (readlink("/etc/malloc.conf", link, sizeof(link) - 1) < 0)
        link[0] = 0;
    const char *set = jemalloc.malloc_conf ? *jemalloc.malloc_conf : NULL;
    const char *texts[] = {built_in, set, link, environment};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (texts[i] && strstr(texts[i], "san_guard"))
            return true;
    return false;
}

// What keeps the remedy from doing anything under this jemalloc and kernel.
static enum ptescope_remedy_state judge(void) {
    if (!is_true("opt.retain"))
        return PTESCOPE_REMEDY_NO_RETAIN;
    if (is_true("opt.hpa"))
        return PTESCOPE_REMEDY_HPA;
    if (has_guards())
        return PTESCOPE_REMEDY_GUARDS;
    if (options.dry_run)
        return PTESCOPE_REMEDY_DRY_RUN;
    bool frees = remedy_kernel_frees(), flawed = frees && remedy_kernel_is_flawed();
    if (frees && !flawed)
        return PTESCOPE_REMEDY_DONTNEED;
    if (options.remap)
        return PTESCOPE_REMEDY_REMAP;
    return flawed ? PTESCOPE_REMEDY_KERNEL_FLAWED : PTESCOPE_REMEDY_KERNEL_REFUSES;
}

static const char *problem(enum ptescope_remedy_state state) {
    switch (state) {
    case PTESCOPE_REMEDY_KERNEL_REFUSES:
        return "this kernel frees no PTE page by MADV_DONTNEED (Linux 6.14 with PT_RECLAIM does; on arm64 "
               "7.0); PTESCOPE_REMEDY=remap maps slots again instead";
    case PTESCOPE_REMEDY_KERNEL_FLAWED:
        return "Linux 7.0 to 7.1.8 can corrupt memory when they free a PTE page (CVE-2026-74674); "
               "PTESCOPE_REMEDY=remap maps slots again instead";
    case PTESCOPE_REMEDY_NO_RETAIN:
        return "under retain:false jemalloc unmaps free memory, which frees its PTE pages already";
    case PTESCOPE_REMEDY_HPA:
        return "extent hooks would switch hpa:true off";
    case PTESCOPE_REMEDY_GUARDS:
        return "jemalloc removes the guard pages of san_guard_* only without extent hooks";
    case PTESCOPE_REMEDY_OTHER_HOOKS:
        return "jemalloc has other extent hooks than its own, or lacks some";
    default:
        return NULL;
    }
}

static bool set_hooks(bool remap) {
    extent_hooks_t *defaults = remedy_take_arenas(&jemalloc);
    if (!defaults || !remedy_make_hooks(defaults, remap))
        return false;
    remedy_sweep_with(&options, remap, remedy_hooks_overcommit());
    remedy_hook_arenas();
    remedy_hook_huge_arena();
    return ptescope_remedy_counters()->arenas > 0 || remedy_expects_arenas();
}

static enum ptescope_remedy_state state_now(void) {
    return (enum ptescope_remedy_state)ptescope_remedy_counters()->state;
}

enum ptescope_remedy_state ptescope_remedy_start(void) {
    struct remedy_jemalloc found;
    return remedy_find_jemalloc(&found) ? remedy_start_with(&found) : state_now();
}

enum ptescope_remedy_state remedy_start_with(const struct remedy_jemalloc *found) {
    char wrong[64];
    if (state_now() != PTESCOPE_REMEDY_UNUSED)
        return state_now();  // it has started, or has said why not
    remedy_measure_pages();
    jemalloc = *found;
    if (!is_jemalloc_5())
        return PTESCOPE_REMEDY_UNUSED;
    if (!remedy_read_options(getenv("PTESCOPE_REMEDY"), &options, wrong, sizeof(wrong))) {
        fprintf(stderr,
                "ptescope remedy: does nothing: PTESCOPE_REMEDY has \"%s\"; the words are "
                "min=SIZE, rate=N, remap, dry_run, quiet, off\n",
                wrong);
        remedy_open_counters();
        remedy_set_state(PTESCOPE_REMEDY_BAD_OPTION);
        return PTESCOPE_REMEDY_BAD_OPTION;
    }
    if (options.off)
        return PTESCOPE_REMEDY_UNUSED;
    remedy_open_counters();
    enum ptescope_remedy_state state = judge();
    remedy_set_state(state);
    if (state <= PTESCOPE_REMEDY_DRY_RUN) {
        hooked = set_hooks(state == PTESCOPE_REMEDY_REMAP);
        if (!hooked)
            remedy_set_state(state = PTESCOPE_REMEDY_OTHER_HOOKS);
    }
    if (problem(state) && !options.quiet)
        fprintf(stderr, "ptescope remedy: does nothing: %s\n", problem(state));
    return state;
}

bool remedy_hooks_arenas(void) {
    return hooked;
}

void ptescope_remedy_thread(void) {
    if (hooked)
        remedy_hook_own_arena();
}

void ptescope_remedy_refresh(void) {
    if (hooked)
        remedy_hook_arenas();
}
