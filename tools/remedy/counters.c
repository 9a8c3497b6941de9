// SPDX-License-Identifier: GPL-2.0-only
// The counters: a page of their own, which `ptescope` finds by its name in /proc/PID/maps.
//
// The mapping is private, so a forked child counts for itself.

#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "parts.h"

static struct ptescope_remedy_counters unshown;  // in use until there is a page, or if none can be
_Atomic(struct ptescope_remedy_counters *) remedy_counters = &unshown;

static void count_for_child(void) {
    struct ptescope_remedy_counters *counters = atomic_load(&remedy_counters);
    struct ptescope_remedy_counters fresh = {
        .version = counters->version,
        .size = counters->size,
        .pid = (uint32_t)getpid(),
        .state = counters->state,
        .arenas = counters->arenas,
    };
    memcpy(fresh.magic, counters->magic, sizeof(fresh.magic));
    *counters = fresh;
}

void remedy_open_counters(void) {
    unshown.version = PTESCOPE_REMEDY_VERSION;
    unshown.size = sizeof(unshown);
    unshown.pid = (uint32_t)getpid();
    memcpy(unshown.magic, PTESCOPE_REMEDY_MAGIC, sizeof(unshown.magic));
    pthread_atfork(NULL, NULL, count_for_child);
    int file = memfd_create(PTESCOPE_REMEDY_MEMFD, MFD_CLOEXEC);
    if (file < 0)
        return;
    void *page = MAP_FAILED;
    if (!ftruncate(file, 4096))
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    close(file);
    if (page == MAP_FAILED)
        return;
    memcpy(page, &unshown, sizeof(unshown));
    atomic_store(&remedy_counters, page);
}

void remedy_set_state(enum ptescope_remedy_state state) {
    atomic_load(&remedy_counters)->state = state;
}

const struct ptescope_remedy_counters *ptescope_remedy_counters(void) {
    return atomic_load(&remedy_counters);
}
