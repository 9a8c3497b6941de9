// SPDX-License-Identifier: GPL-2.0-only
// Give the hooks to every arena. None of this runs inside a hook, because mallctl takes locks.
//
// An arena with other hooks than jemalloc's own belongs to the program, and stays as it is.

#include <stdio.h>
#include <string.h>

#include "parts.h"

static struct remedy_jemalloc jemalloc;
static extent_hooks_t *defaults;

enum { HOOKS, INITIALIZED, THREAD_ARENA, NAMES };
static struct {
    const char *name;
    size_t length, mib[4];
} names[NAMES] = {
    {"arena.0.extent_hooks", 4, {0}},
    {"arena.0.initialized", 4, {0}},
    {"thread.arena", 4, {0}},
};

static bool get(int name, size_t index, void *into, size_t size) {
    size_t mib[4];
    memcpy(mib, names[name].mib, sizeof(mib));
    if (name != THREAD_ARENA)
        mib[1] = index;
    return !jemalloc.mallctlbymib(mib, names[name].length, into, &size, NULL, 0);
}

static bool value(const char *name, void *into, size_t size) {
    return !jemalloc.mallctl(name, into, &size, NULL, 0);
}

static unsigned arenas(void) {
    unsigned all = 0;
    value("arenas.narenas", &all, sizeof(all));
    return all;
}

static void update_initialized(void) {
    uint64_t epoch = 1;
    // "initialized" is as of the last epoch (ctl.c, ctl_refresh).
    jemalloc.mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
}

static bool is_initialized(unsigned arena) {
    bool initialized = false;
    return get(INITIALIZED, arena, &initialized, sizeof(initialized)) && initialized;
}

// jemalloc's own hooks. The program may have replaced those of arenas in use, so they are read
// from one that is not initialised yet (ctl.c, arena_i_extent_hooks_ctl), or else from a new one.
static extent_hooks_t *own_hooks(void) {
    extent_hooks_t *own = NULL;
    unsigned new;
    char destroy[32];
    update_initialized();
    for (unsigned arena = arenas(); arena-- > 0;)
        if (!is_initialized(arena) && get(HOOKS, arena, &own, sizeof(own)))
            return own;
    if (!value("arenas.create", &new, sizeof(new)))
        return NULL;
    get(HOOKS, new, &own, sizeof(own));
    snprintf(destroy, sizeof(destroy), "arena.%u.destroy", new);
    jemalloc.mallctl(destroy, NULL, NULL, NULL, 0);
    return own;
}

// Returns jemalloc's own hooks; NULL: this jemalloc lacks something.
extent_hooks_t *remedy_take_arenas(const struct remedy_jemalloc *found) {
    jemalloc = *found;
    for (int i = 0; i < NAMES; i++)
        if (jemalloc.mallctlnametomib(names[i].name, names[i].mib, &names[i].length))
            return NULL;
    defaults = own_hooks();
    return defaults;
}

bool remedy_expects_arenas(void) {
    unsigned automatic = 0;
    value("opt.narenas", &automatic, sizeof(automatic));
    for (unsigned arena = 0; arena < automatic; arena++)
        if (!is_initialized(arena))
            return true;
    return false;
}

// Sets the hooks of an initialised arena.
void remedy_hook_arena(unsigned arena) {
    size_t mib[4];
    extent_hooks_t *now, *ours = remedy_hooks();
    if (!get(HOOKS, arena, &now, sizeof(now)) || now != defaults)
        return;
    memcpy(mib, names[HOOKS].mib, sizeof(mib));
    mib[1] = arena;
    if (!jemalloc.mallctlbymib(mib, names[HOOKS].length, NULL, NULL, &ours, sizeof(ours)))
        REMEDY_COUNT(arenas, 1);
}

// percpu_arena moves threads to arenas without a call of the program; all of these are made now.
static bool per_cpu(void) {
    const char *mode;
    return value("opt.percpu_arena", &mode, sizeof(mode)) && strcmp(mode, "disabled") != 0;
}

// An allocation makes an arena. Setting hooks would too, but before 5.3 jemalloc's own alloc hook
// needs the arena that its caller is just making (extent.c, extent_alloc_default).
static void make_arena(unsigned arena) {
    int flags = (int)((arena + 1) << 20 | 1u << 8);  // MALLOCX_ARENA, MALLOCX_TCACHE_NONE
    void *memory = jemalloc.mallocx(1, flags);
    if (memory)
        jemalloc.dallocx(memory, flags);
}

void remedy_hook_arenas(void) {
    unsigned all = arenas(), automatic = 0;
    update_initialized();
    if (per_cpu())
        value("opt.narenas", &automatic, sizeof(automatic));
    for (unsigned arena = 0; arena < all; arena++) {
        bool initialized = is_initialized(arena);
        if (!initialized && arena < automatic)
            make_arena(arena);
        if (initialized || arena < automatic)
            remedy_hook_arena(arena);
    }
}

// jemalloc makes the arena of huge allocations at the first one, and refuses hooks before
// (ctl.c, arena_i_extent_hooks_ctl: EFAULT). So the first one comes from here; nothing touches it.
void remedy_hook_huge_arena(void) {
    size_t threshold = 0;
    if (!value("opt.oversize_threshold", &threshold, sizeof(threshold)) || !threshold ||
        threshold > (size_t)1 << 40)
        return;
    void *huge = jemalloc.mallocx(threshold, 0);
    remedy_hook_arenas();
    if (huge)
        jemalloc.dallocx(huge, 0);
}

// In a new thread: asking for its arena makes jemalloc choose one.
void remedy_hook_own_arena(void) {
    unsigned arena;
    if (get(THREAD_ARENA, 0, &arena, sizeof(arena)))
        remedy_hook_arena(arena);
}
