// SPDX-License-Identifier: GPL-2.0-only
// What the files of the remedy share.

#ifndef PTESCOPE_REMEDY_PARTS_H
#define PTESCOPE_REMEDY_PARTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "extent_hooks.h"
#include "remedy.h"

// kernel.c: bytes of a page, and the memory that one PTE page serves: 2 MiB with pages of 4 KiB
extern size_t remedy_page, remedy_slot;
void remedy_measure_pages(void);

// options.c
struct remedy_options {
    bool off, dry_run, remap, quiet;
    size_t min;     // bytes of the free extent around a slot
    uint64_t rate;  // slots a second; 0: no limit
};
bool remedy_read_options(const char *text, struct remedy_options *into, char *wrong, size_t room);

// jemalloc.c: the functions of the jemalloc in use
struct remedy_jemalloc {
    int (*mallctl)(const char *, void *, size_t *, void *, size_t);
    int (*mallctlnametomib)(const char *, size_t *, size_t *);
    int (*mallctlbymib)(const size_t *, size_t, void *, size_t *, void *, size_t);
    void *(*mallocx)(size_t, int);
    void (*dallocx)(void *, int);
    const char *const *malloc_conf;
    char conf_variable[64];  // the environment variable with its settings
};
bool remedy_find_jemalloc(struct remedy_jemalloc *into);
bool remedy_find_jemalloc_in(void *handle, const char *prefix, struct remedy_jemalloc *into);

// whether one MADV_DONTNEED over an empty slot frees its PTE page
bool remedy_kernel_frees(void);
// Linux 7.0 to 7.1.8 flush the wrong slot when they free a PTE page (CVE-2026-74674).
bool remedy_kernel_is_flawed(void);

// counters.c
extern _Atomic(struct ptescope_remedy_counters *) remedy_counters;
#define REMEDY_COUNT(field, number)                                                         \
    __atomic_fetch_add(&atomic_load_explicit(&remedy_counters, memory_order_relaxed)->field, \
                       (number), __ATOMIC_RELAXED)
void remedy_open_counters(void);
void remedy_set_state(enum ptescope_remedy_state state);

// sweep.c
void remedy_sweep_with(const struct remedy_options *options, bool remap, bool overcommits);
void remedy_sweep(uintptr_t first, uintptr_t end, size_t extent);

// hooks.c
bool remedy_make_hooks(extent_hooks_t *defaults, bool remap);
bool remedy_hooks_overcommit(void);
extent_hooks_t *remedy_hooks(void);

// start.c
enum ptescope_remedy_state remedy_start_with(const struct remedy_jemalloc *found);
bool remedy_hooks_arenas(void);  // whether the remedy has started

// arenas.c
extent_hooks_t *remedy_take_arenas(const struct remedy_jemalloc *jemalloc);
bool remedy_expects_arenas(void);  // whether threads to come may get arenas that are not made yet
void remedy_hook_arenas(void);
void remedy_hook_arena(unsigned arena);
void remedy_hook_huge_arena(void);
void remedy_hook_own_arena(void);

#endif
