// SPDX-License-Identifier: GPL-2.0-only
// Registers, system calls and page-table entries of arm64. All other files use these functions.

#include <asm/ptrace.h>
#include <asm/unistd.h>

struct call {
    u64 id, a, b, c, d, e, f;
};

// The beginning of the kernel's struct pt_regs (arch/arm64/include/asm/ptrace.h), which the UAPI
// headers lack. The loader checks both offsets of the last members with BTF.
struct pt_regs {
    u64 regs[31];
    u64 sp;
    u64 pc;
    u64 pstate;
    u64 orig_x0;
    s32 syscallno;
    u32 unused;
};

// The arguments and the result of a function, at a kprobe and a kretprobe.
#define ARGUMENT_1(ctx) ((ctx)->regs[0])
#define ARGUMENT_2(ctx) ((ctx)->regs[1])
#define ARGUMENT_3(ctx) ((ctx)->regs[2])
#define ARGUMENT_4(ctx) ((ctx)->regs[3])
#define RESULT(ctx) ((ctx)->regs[0])

#define PLAIN_CALL(id) (id)

// Calls that arm64 never had; no call has this number.
#define NO_CALL (~0ULL)
#ifndef __NR_open
#define __NR_open NO_CALL
#endif
#ifndef __NR_creat
#define __NR_creat (NO_CALL - 1)
#endif

// The number of the system call of these user-mode registers; it is negative outside of a call.
static __always_inline u64 call_number(u64 user) {
    s32 id = -1;
    bpf_probe_read_kernel(&id, sizeof(id),
                          (void *)(user + __builtin_offsetof(struct pt_regs, syscallno)));
    return (u32)id;
}

// x0 holds the result at the end of a call; the kernel has a copy of the argument.
static __always_inline void read_call(struct call *call, u64 user) {
    struct pt_regs regs;
    bpf_probe_read_kernel(&regs, sizeof(regs), (void *)user);
    call->id = (u32)regs.syscallno;
    call->a = regs.orig_x0;
    call->b = regs.regs[1];
    call->c = regs.regs[2];
    call->d = regs.regs[3];
    call->e = regs.regs[4];
    call->f = regs.regs[5];
}

// Whether the thread runs a 32-bit program, whose calls have other numbers.
// COMPAT_WORD is the word of a task_struct that says so.
#define TIF_32BIT 22
#define IS_COMPAT(word) ((word) >> TIF_32BIT & 1)

#define PSR_MODE 0x1f  // PSR_MODE_MASK and PSR_MODE32_BIT; 0: 64-bit code at EL0

static __always_inline bool runs_64_bit_code(u64 user) {
    u64 state = 1;
    bpf_probe_read_kernel(&state, sizeof(state),
                          (void *)(user + __builtin_offsetof(struct pt_regs, pstate)));
    return !(state & PSR_MODE);
}

static __always_inline u64 stack_pointer(u64 user) {
    u64 sp = 0;
    bpf_probe_read_kernel(&sp, sizeof(sp), (void *)(user + __builtin_offsetof(struct pt_regs, sp)));
    return sp;
}

// What a software event of perf gives to its program (struct bpf_perf_event_data).
struct perf_fault {
    struct user_pt_regs registers;
    u64 period;
    u64 address;
};

// Entries of page tables above the PTE pages: a table, or a block.
#define ENTRY_TYPE 3
#define ENTRY_TABLE 3
#define ENTRY_BLOCK 1
#define ENTRY_ADDRESS (((1ULL << 48) - 1) & ~((1ULL << PAGE_SHIFT) - 1))

static __always_inline bool entry_is_table(u64 entry) {
    return (entry & ENTRY_TYPE) == ENTRY_TABLE;
}

static __always_inline bool entry_is_leaf(u64 entry) {
    return (entry & ENTRY_TYPE) == ENTRY_BLOCK;
}
