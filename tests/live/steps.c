// SPDX-License-Identifier: GPL-2.0-only
// Deterministic: waits for a byte, makes and empties PTE pages in many ways, answers, waits.
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOT (page * (page / sizeof(void *)))  // a PTE page has an entry of 8 bytes for each page
#define BASE ((char *)0x100000000000UL)
#define MADV_POPULATE_WRITE_ 23

static unsigned long page;

static void touch(char *at, unsigned long length, unsigned long step) {
    for (unsigned long i = 0; i < length; i += step)
        at[i] = 1;
}

int main(void) {
    char go;
    int ends[2];
    page = sysconf(_SC_PAGESIZE);
    if (pipe(ends) || write(ends[1], "x", 1) != 1 || read(0, &go, 1) != 1)
        return 1;
    mmap(BASE, 64 * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    madvise(BASE, 64 * SLOT, MADV_NOHUGEPAGE);
    touch(BASE, 32 * SLOT, 8 * page);
    if (read(ends[0], BASE + 33 * SLOT, 1) != 1)  // a fault in kernel mode
        return 1;
    madvise(BASE, SLOT, MADV_DONTNEED);
    for (unsigned long i = 0; i < 4; i++)
        madvise(BASE + SLOT + i * SLOT / 4, SLOT / 4, MADV_DONTNEED);
    madvise(BASE + 2 * SLOT, SLOT, MADV_FREE);
    madvise(BASE + 34 * SLOT, SLOT / 2, MADV_POPULATE_WRITE_);
    mlock(BASE + 35 * SLOT, 16 * page);
    munlock(BASE + 35 * SLOT, 16 * page);
    munmap(BASE + 4 * SLOT, 3 * SLOT / 2);
    mremap(BASE + 8 * SLOT, SLOT, SLOT, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 80 * SLOT);
    mprotect(BASE + 9 * SLOT, SLOT, PROT_READ);
    touch(BASE, 4 * SLOT, 16 * page);
    mmap(BASE + 40 * SLOT, SLOT, PROT_READ | PROT_WRITE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
    char *heap = sbrk(4 * SLOT);
    touch(heap, 4 * SLOT, page);
    sbrk(-3 * (long)SLOT);
    madvise(BASE + 16 * SLOT, 8 * SLOT, MADV_DONTNEED);
    if (write(1, "x", 1) != 1)
        return 1;
    return read(0, &go, 1) < 0;
}
