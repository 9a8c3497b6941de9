// SPDX-License-Identifier: GPL-2.0-only
// Sweep whole slots of free memory, so that the kernel frees their PTE pages.
//
// This runs inside extent hooks, under locks of jemalloc: it allocates nothing and takes no lock.

#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "parts.h"

static struct remedy_options options;
static bool remaps;
static int protection, flags;

void remedy_sweep_with(const struct remedy_options *chosen, bool remap, bool overcommits) {
    options = *chosen;
    remaps = remap;
    // What jemalloc maps (src/pages.c, os_pages_map, os_pages_commit), so that the new mapping
    // merges with its neighbours.
    protection = overcommits ? PROT_READ | PROT_WRITE : PROT_NONE;
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | (overcommits ? MAP_NORESERVE : 0);
}

// How many of so many slots the rate allows in this second.
static uint64_t allowed(uint64_t slots) {
    static _Atomic uint64_t second, used;
    if (!options.rate)
        return slots;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (atomic_exchange(&second, (uint64_t)now.tv_sec) != (uint64_t)now.tv_sec)
        atomic_store(&used, 0);
    uint64_t before = atomic_fetch_add(&used, slots);
    uint64_t left = before < options.rate ? options.rate - before : 0;
    return slots < left ? slots : left;
}

// Map the slots again. Before Linux 6.12 a failed mmap may leave a hole, and then jemalloc would
// hand out memory that is not there; so a hole that stays ends the process.
static bool mapped_again(void *first, size_t length) {
    for (int tries = 0; tries < 3; tries++)
        if (mmap(first, length, protection, flags, -1, 0) != MAP_FAILED)
            return true;
    if (madvise(first, length, MADV_DONTNEED) && errno == ENOMEM) {
        static const char words[] = "ptescope remedy: remap lost a mapping of jemalloc\n";
        if (write(STDERR_FILENO, words, sizeof(words) - 1))
            abort();
        abort();
    }
    return false;
}

// Sweep [first, end), which begins and ends on slots. `extent` is the size of the free extent
// around it.
void remedy_sweep(uintptr_t first, uintptr_t end, size_t extent) {
    uint64_t slots = (end - first) / remedy_slot;
    if (extent < options.min) {
        REMEDY_COUNT(too_small, slots);
        return;
    }
    uint64_t count = allowed(slots);
    if (count < slots)
        REMEDY_COUNT(too_fast, slots - count);
    if (!count)
        return;
    int before = errno;
    size_t length = count * remedy_slot;
    bool done = options.dry_run || (remaps ? mapped_again((void *)first, length)
                                           : !madvise((void *)first, length, MADV_DONTNEED));
    if (done)
        REMEDY_COUNT(swept, count);
    else
        REMEDY_COUNT(failed, count);
    errno = before;  // free() must not change it
}
