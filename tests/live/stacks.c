// SPDX-License-Identifier: GPL-2.0-only
// A program whose stacks are known. Each line of input names a step; the program prints a line
// once it is done. Each step runs in a thread with the step's name, through functions that are
// not inlined and make no tail calls. Compile it without frame pointers.
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <ucontext.h>

#define SLOT (2UL << 20)
#define PAGE 4096UL
#define SLOTS 64
#define APART __attribute__((noinline, noclone))
#define NO_TAIL_CALL __asm__ volatile("" ::: "memory")

static char *base;
static char argument[512];

APART void touch_slot(char *slot) { *(volatile char *)slot = 1; NO_TAIL_CALL; }

APART void fill_some(int first, int count) {
    for (int i = first; i < first + count; i++)
        touch_slot(base + i * SLOT);
    NO_TAIL_CALL;
}

APART void fill_low(void) { fill_some(0, 20); NO_TAIL_CALL; }
APART void fill_high(void) { fill_some(20, SLOTS - 20); NO_TAIL_CALL; }

APART void *fill(void *nothing) {
    fill_low();
    fill_high();
    NO_TAIL_CALL;
    return nothing;
}

APART void purge_run(int first, int count) {
    for (int i = first; i < first + count; i++)
        madvise(base + i * SLOT, 16 * PAGE, MADV_DONTNEED);
    NO_TAIL_CALL;
}

APART void purge_three(void) { purge_run(0, 3); NO_TAIL_CALL; }
APART void purge_five(void) { purge_run(3, 5); NO_TAIL_CALL; }

APART void *purge(void *nothing) {
    purge_three();
    purge_five();
    NO_TAIL_CALL;
    return nothing;
}

APART void cut_mapping(int slot) { munmap(base + slot * SLOT, SLOT - PAGE); NO_TAIL_CALL; }

APART void *cut(void *nothing) {
    for (int i = 8; i < 12; i++)
        cut_mapping(i);
    NO_TAIL_CALL;
    return nothing;
}

APART void move_page(int slot) {
    mremap(base + slot * SLOT, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, base - SLOT);
    NO_TAIL_CALL;
}

APART void *move(void *nothing) {
    move_page(12);
    NO_TAIL_CALL;
    return nothing;
}

// A hole in a memfd that is mapped over a slot: the event of the file has no thread.
APART void punch_hole(int file) {
    fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 * PAGE);
    NO_TAIL_CALL;
}

APART void *punch(void *nothing) {
    int file = memfd_create("hole", 0);
    ftruncate(file, SLOT);
    char *slot = mmap(base + 14 * SLOT, SLOT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    touch_slot(slot);
    punch_hole(file);
    NO_TAIL_CALL;
    return nothing;
}

// Two slots in one call of process_madvise on the process itself.
APART void advise_two(int pidfd) {
    struct iovec parts[] = {{base + 15 * SLOT, PAGE}, {base + 16 * SLOT, PAGE}};
    syscall(SYS_process_madvise, pidfd, parts, 2, MADV_DONTNEED, 0);
    NO_TAIL_CALL;
}

APART void *by_pidfd(void *nothing) {
    advise_two(syscall(SYS_pidfd_open, getpid(), 0));
    NO_TAIL_CALL;
    return nothing;
}

APART void purge_in_child(void) { purge_run(40, 4); NO_TAIL_CALL; }

// A child that empties slots of its own address space, and waits to be followed first.
APART void *child(void *nothing) {
    pid_t pid = fork();
    if (!pid) {
        sleep(1);
        purge_in_child();
        sleep(1);
        _exit(0);
    }
    waitpid(pid, 0, 0);
    return nothing;
}

// The frame pointer leads through this function, because its frame has no fixed size.
APART void purge_deep(int slot, size_t bytes) {
    volatile char *room = alloca(bytes);
    room[0] = 1;
    madvise(base + slot * SLOT, PAGE, MADV_DONTNEED);
    NO_TAIL_CALL;
}

static ucontext_t here, there;

APART void on_own_stack(int slot, int bytes) { purge_deep(slot, bytes); NO_TAIL_CALL; }

// A stack that begins at the end of its mapping; the page above is not mapped.
APART void *own_stack(void *nothing) {
    int slot = 20;
    static const int used[] = {16, 600, 1500, 3000, 5000, 7000};
    for (unsigned i = 0; i < sizeof(used) / sizeof(used[0]); i++, slot++) {
        char *stack = mmap(0, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(stack + 4 * PAGE, PAGE);
        getcontext(&there);
        there.uc_stack.ss_sp = stack;
        there.uc_stack.ss_size = 4 * PAGE;
        there.uc_link = &here;
        makecontext(&there, (void (*)(void))on_own_stack, 2, slot, used[i]);
        swapcontext(&here, &there);
    }
    return nothing;
}

APART void recurse(int depth) {
    char room[100];
    __asm__ volatile("" : : "r"(room) : "memory");
    if (depth)
        recurse(depth - 1);
    else
        madvise(base + 30 * SLOT, PAGE, MADV_DONTNEED);
    NO_TAIL_CALL;
}

APART void *deep(void *nothing) {
    recurse(200);
    NO_TAIL_CALL;
    return nothing;
}

// plug PATH FUNCTION SLOT: load a library, later call a function of it, and unload it at once.
APART void *plug(void *nothing) {
    char path[256], name[64];
    int slot;
    if (sscanf(argument, "%255s %63s %d", path, name, &slot) != 3)
        abort();
    void *library = dlopen(path, RTLD_NOW);
    usleep(100000);
    void (*function)(char *) = (void (*)(char *))dlsym(library, name);
    if (!function)
        abort();
    function(base + slot * SLOT);
    dlclose(library);
    return nothing;
}

// jit ADDRESS SLOT: call madvise from generated code, which keeps a frame pointer.
APART void *jit(void *nothing) {
    int slot;
    unsigned long address;
    if (sscanf(argument, "%lx %d", &address, &slot) != 2)
        abort();
    static const unsigned char code[] = {
        0x55, 0x48, 0x89, 0xe5,              // push %rbp; mov %rsp,%rbp
        0xb8, 28, 0, 0, 0,                   // mov $__NR_madvise,%eax
        0x0f, 0x05,                          // syscall
        0x5d, 0xc3,                          // pop %rbp; ret
    };
    char *page = mmap((void *)address, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(page, code, sizeof(code));
    ((long (*)(void *, unsigned long, int))page)(base + slot * SLOT, PAGE, MADV_DONTNEED);
    NO_TAIL_CALL;
    return nothing;
}

static const struct step {
    const char *name;
    void *(*run)(void *);
} steps[] = {{"fill", fill}, {"purge", purge}, {"cut", cut},   {"move", move},
             {"punch", punch}, {"by_pidfd", by_pidfd}, {"child", child}, {"own_stack", own_stack}, {"deep", deep}, {"plug", plug}, {"jit", jit}};

static void *named(void *step) {
    pthread_setname_np(pthread_self(), ((struct step *)step)->name);
    ((struct step *)step)->run(0);
    NO_TAIL_CALL;
    return step;
}

int main(void) {
    char line[600];
    base = mmap((void *)0x100000000000, SLOTS * SLOT, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    madvise(base, SLOTS * SLOT, MADV_NOHUGEPAGE);
    printf("%p\n", (void *)base);
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        char *space = strpbrk(line, " \n");
        snprintf(argument, sizeof(argument), "%s", space + 1);
        *space = 0;
        for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
            pthread_t thread;
            if (strcmp(line, steps[i].name))
                continue;
            pthread_create(&thread, 0, named, (void *)&steps[i]);
            pthread_join(thread, 0);
        }
        printf("%s\n", line);
        fflush(stdout);
    }
    return 0;
}
