// SPDX-License-Identifier: GPL-2.0-only
// The types of jemalloc's extent hooks, as its manual and its public header define them for 5.0
// to 5.3, so that building the remedy needs no jemalloc.

#ifndef PTESCOPE_REMEDY_EXTENT_HOOKS_H
#define PTESCOPE_REMEDY_EXTENT_HOOKS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct extent_hooks_s extent_hooks_t;

struct extent_hooks_s {
    void *(*alloc)(extent_hooks_t *, void *new_addr, size_t size, size_t alignment, bool *zero,
                   bool *commit, unsigned arena);
    bool (*dalloc)(extent_hooks_t *, void *addr, size_t size, bool committed, unsigned arena);
    void (*destroy)(extent_hooks_t *, void *addr, size_t size, bool committed, unsigned arena);
    bool (*commit)(extent_hooks_t *, void *addr, size_t size, size_t offset, size_t length,
                   unsigned arena);
    bool (*decommit)(extent_hooks_t *, void *addr, size_t size, size_t offset, size_t length,
                     unsigned arena);
    bool (*purge_lazy)(extent_hooks_t *, void *addr, size_t size, size_t offset, size_t length,
                       unsigned arena);
    bool (*purge_forced)(extent_hooks_t *, void *addr, size_t size, size_t offset, size_t length,
                         unsigned arena);
    bool (*split)(extent_hooks_t *, void *addr, size_t size, size_t size_a, size_t size_b,
                  bool committed, unsigned arena);
    bool (*merge)(extent_hooks_t *, void *addr_a, size_t size_a, void *addr_b, size_t size_b,
                  bool committed, unsigned arena);
};

#endif
