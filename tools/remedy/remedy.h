// SPDX-License-Identifier: GPL-2.0-only
// jemalloc frees its own empty PTE pages: the interface, and the counters that ptescope reads.
//
// Preloaded, the remedy starts itself. Linked in, the program calls ptescope_remedy_start once,
// before it has many threads, and ptescope_remedy_thread first in each thread that it starts.
// Define PTESCOPE_REMEDY_PREFIX as the prefix of the jemalloc (je_, _rjem_) when you compile it.

#ifndef PTESCOPE_REMEDY_H
#define PTESCOPE_REMEDY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define PTESCOPE_REMEDY_MAGIC "PTEREMDY"
#define PTESCOPE_REMEDY_VERSION 1
#define PTESCOPE_REMEDY_MEMFD "ptescope-remedy"  // the name of its mapping in /proc/PID/maps

enum ptescope_remedy_state {
    PTESCOPE_REMEDY_UNUSED = 0,          // there is no jemalloc 5, or the option off is set
    PTESCOPE_REMEDY_DONTNEED = 1,        // sweeps with MADV_DONTNEED
    PTESCOPE_REMEDY_REMAP = 2,           // sweeps by mapping the slot again
    PTESCOPE_REMEDY_DRY_RUN = 3,         // only counts
    PTESCOPE_REMEDY_KERNEL_REFUSES = 4,  // this kernel frees no PTE page by MADV_DONTNEED
    PTESCOPE_REMEDY_NO_RETAIN = 5,       // retain:false: jemalloc unmaps what it does not need
    PTESCOPE_REMEDY_HPA = 6,             // hpa:true: extent hooks would switch it off
    PTESCOPE_REMEDY_GUARDS = 7,          // san_guard_*: jemalloc lets only default hooks remove them
    PTESCOPE_REMEDY_BAD_OPTION = 8,      // PTESCOPE_REMEDY has an error
    PTESCOPE_REMEDY_OTHER_HOOKS = 9,     // the program has extent hooks of its own
    PTESCOPE_REMEDY_KERNEL_FLAWED = 10,  // this kernel flushes the wrong slot (CVE-2026-74674)
};

// The first bytes of the mapping PTESCOPE_REMEDY_MEMFD; a later version only adds fields.
struct ptescope_remedy_counters {
    char magic[8];
    uint32_t version;
    uint32_t size;      // of this structure
    uint32_t pid;       // whose counters these are
    uint32_t state;     // enum ptescope_remedy_state
    uint64_t arenas;    // arenas that have the hooks
    uint64_t purges;    // free extents that jemalloc purged through the hooks
    uint64_t merges;    // merges of two purged extents
    uint64_t completed; // of these: merges that made a slot whole
    uint64_t swept;     // slots swept (dry run: that would be)
    uint64_t too_small; // slots not swept: their extent is smaller than min
    uint64_t too_fast;  // slots not swept: more than rate in this second
    uint64_t failed;    // slots not swept: the system call failed
};

// Read PTESCOPE_REMEDY and set the hooks of every arena; returns the state.
enum ptescope_remedy_state ptescope_remedy_start(void);

// The same for a jemalloc in a library that the program has opened: `handle` is of dlopen, and
// `prefix` that of its functions, which the library has to export. Only the shared object has it.
enum ptescope_remedy_state ptescope_remedy_start_in(void *handle, const char *prefix);

// Set the hooks of the calling thread's arena, if it has default hooks.
void ptescope_remedy_thread(void);

// Set the hooks of all arenas that have default hooks, for example after "arenas.create".
void ptescope_remedy_refresh(void);

// The counters of this process.
const struct ptescope_remedy_counters *ptescope_remedy_counters(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
