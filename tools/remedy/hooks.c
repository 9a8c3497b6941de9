// SPDX-License-Identifier: GPL-2.0-only
// The extent hooks: jemalloc's own, and four that sweep slots when free extents grow together.
//
// jemalloc gives a purged extent back to its neighbours in the state "retained". The slot at the
// seam of two such extents has often become free as a whole, but no single purge covered it.
//
// How a hook knows that memory is free. `merge` alone does not: jemalloc also calls it to enlarge
// an allocation in place (pac.c, pac_expand_impl; 5.2: large.c, large_ralloc_no_move_expand), and
// then the first extent has the data of the program. The argument `committed` separates the two.
// It is a promise of the interface (jemalloc(3), arena.<i>.extent_hooks): an extent that decommit
// took away is not used before commit gives it back. So these hooks purge in `decommit`, and:
//
//   - An extent of an allocation is committed. Each way to one asks for that: extent_recycle and
//     extent_grow_retained call the commit hook (through extent_commit_zero and
//     extent_commit_impl), and extent_alloc_wrapper asks the alloc hook for committed memory.
//   - jemalloc merges free extents only if both are committed or neither is (extent.h,
//     extent_can_acquire_neighbor; 5.2: extent.c, extent_can_coalesce).
//   - So a merge with committed == false has two free extents. They are held for this call:
//     extent_coalesce has the mutex of the ecache, and one extent is active, the other merging
//     (5.2: both are active, extent_activate_locked). No thread can allocate from them.
//
// Dirty and muzzy extents are committed: their merges sweep nothing, so nothing is purged before
// its decay time.

#define _GNU_SOURCE
#include <sys/mman.h>

#include "parts.h"

static extent_hooks_t *defaults;
static extent_hooks_t original, hooks;
static bool remaps;
static bool overcommits;  // jemalloc's decommit and commit do nothing (pages.c, os_overcommits)

// New memory that jemalloc did not ask to be committed goes to retained (extent_grow_retained). If
// it counted as committed there, it would never merge with what decommit returned.
static void *alloc(extent_hooks_t *ours, void *new_addr, size_t size, size_t alignment, bool *zero,
                   bool *commit, unsigned arena) {
    (void)ours;
    bool asked = *commit;
    void *memory = original.alloc(defaults, new_addr, size, alignment, zero, commit, arena);
    // A later commit promises zeros, so the memory has to be zero (not that of sbrk).
    if (memory && overcommits && !asked && *zero)
        *commit = false;
    return memory;
}

// Pages under decommit read as zeros without any call, as commit has to provide.
static bool commit(extent_hooks_t *ours, void *addr, size_t size, size_t offset, size_t length,
                   unsigned arena) {
    (void)ours;
    if (!overcommits)
        return original.commit(defaults, addr, size, offset, length, arena);
    return false;
}

static void sweep_inside(uintptr_t start, size_t length) {
    uintptr_t first = (start + remedy_slot - 1) & ~(uintptr_t)(remedy_slot - 1);
    uintptr_t end = (start + length) & ~(uintptr_t)(remedy_slot - 1);
    if (first < end)
        remedy_sweep(first, end, length);
}

// Called for a whole extent that is in no cache: extent_dalloc_wrapper has it from ecache_evict or
// extent_record, which made it active, so nobody else can take it; base_unmap has the metadata of
// an arena that is destroyed. The purge is one MADV_DONTNEED, and so frees by itself the PTE pages
// of all slots that it covers. On failure (locked memory) jemalloc goes on as without these hooks.
static bool decommit(extent_hooks_t *ours, void *addr, size_t size, size_t offset, size_t length,
                     unsigned arena) {
    (void)ours;
    if (!overcommits)
        return original.decommit(defaults, addr, size, offset, length, arena);
    if (original.purge_forced(defaults, addr, size, offset, length, arena))
        return true;
    REMEDY_COUNT(purges, 1);
    if (remaps)
        sweep_inside((uintptr_t)addr + offset, length);
    return false;
}

// Both extents are free and held if they are not committed: see above. The slots inside one of
// them were swept when it was purged or merged before; the one at the seam is new.
static bool merge(extent_hooks_t *ours, void *addr_a, size_t size_a, void *addr_b, size_t size_b,
                  bool committed, unsigned arena) {
    (void)ours;
    if (original.merge(defaults, addr_a, size_a, addr_b, size_b, committed, arena))
        return true;
    if (committed)
        return false;
    REMEDY_COUNT(merges, 1);
    uintptr_t start = (uintptr_t)addr_a, seam = (uintptr_t)addr_b, end = seam + size_b;
    uintptr_t slot = seam & ~(uintptr_t)(remedy_slot - 1);
    if (slot == seam || slot < start || end - slot < remedy_slot)
        return false;
    REMEDY_COUNT(completed, 1);
    remedy_sweep(slot, slot + remedy_slot, size_a + size_b);
    return false;
}

// Makes the hooks from jemalloc's own; false: these lack something.
bool remedy_make_hooks(extent_hooks_t *own, bool remap) {
    if (!own->alloc || !own->commit || !own->decommit || !own->purge_forced || !own->merge)
        return false;
    void *page = mmap(NULL, remedy_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return false;
    defaults = own;
    original = hooks = *own;
    remaps = remap;
    // jemalloc's decommit refuses if it overcommits; otherwise it maps this page again.
    overcommits = own->decommit(own, page, remedy_page, 0, remedy_page, 0);
    munmap(page, remedy_page);
    hooks.alloc = alloc;
    hooks.commit = commit;
    hooks.decommit = decommit;
    hooks.merge = merge;
    return true;
}

bool remedy_hooks_overcommit(void) {
    return overcommits;
}

extent_hooks_t *remedy_hooks(void) {
    return &hooks;
}
