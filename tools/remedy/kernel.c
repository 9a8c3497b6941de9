// SPDX-License-Identifier: GPL-2.0-only
// Does one MADV_DONTNEED over an empty slot free its PTE page? Found by trying: the version says
// little, because CONFIG_PT_RECLAIM (Linux 6.14) is an option and may be backported.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "parts.h"

enum { SLOTS = 8, TRIES = 3 };

size_t remedy_page, remedy_slot;

void remedy_measure_pages(void) {
    remedy_page = (size_t)sysconf(_SC_PAGESIZE);
    remedy_slot = remedy_page / sizeof(uint64_t) * remedy_page;  // an entry has 8 bytes
}

// VmPTE of this process, KiB; -1: it cannot be read.
static long vm_pte_kib(void) {
    char text[4096];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t length = read(file, text, sizeof(text) - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    const char *line = strstr(text, "VmPTE:");
    return line ? strtol(line + 6, NULL, 10) : -1;
}

// How many KiB of PTE pages calls over empty slots free.
static long freed_kib(char *slots) {
    for (int i = 0; i < SLOTS; i++) {
        *(volatile char *)(slots + (size_t)i * remedy_slot) = 1;
        madvise(slots + (size_t)i * remedy_slot, remedy_page, MADV_DONTNEED);
    }
    long before = vm_pte_kib();
    for (int i = 0; i < SLOTS; i++)
        madvise(slots + (size_t)i * remedy_slot, remedy_slot, MADV_DONTNEED);
    return before < 0 ? -1 : before - vm_pte_kib();
}

// If that cannot be measured, the answer is yes: a call that frees nothing does no harm.
bool remedy_kernel_frees(void) {
    size_t size = (size_t)(SLOTS + 1) * remedy_slot;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return true;
    madvise(memory, size, MADV_NOHUGEPAGE);
    char *slots = (char *)(((uintptr_t)memory + remedy_slot - 1) & ~(uintptr_t)(remedy_slot - 1));
    bool frees = false;
    for (int i = 0; i < TRIES && !frees; i++) {  // other threads change VmPTE too
        long freed = freed_kib(slots);
        frees = freed < 0 || freed >= (long)(SLOTS / 2 * remedy_page >> 10);
    }
    munmap(memory, size);
    return frees;
}

bool remedy_kernel_is_flawed(void) {
    struct utsname name;
    unsigned major, minor, patch = 0;
    if (uname(&name) || sscanf(name.release, "%u.%u.%u", &major, &minor, &patch) < 2)
        return false;
    return major == 7 && (minor == 0 || (minor == 1 && patch < 9));
}
