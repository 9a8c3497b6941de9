// SPDX-License-Identifier: GPL-2.0-only
// Registers, system calls and page-table entries of x86-64. All other files use these functions.

#include <asm/ptrace.h>
#include <asm/unistd.h>

struct call {
    u64 id, a, b, c, d, e, f;
};

// The arguments and the result of a function, at a kprobe and a kretprobe.
#define ARGUMENT_1(ctx) ((ctx)->rdi)
#define ARGUMENT_2(ctx) ((ctx)->rsi)
#define ARGUMENT_3(ctx) ((ctx)->rdx)
#define ARGUMENT_4(ctx) ((ctx)->rcx)
#define RESULT(ctx) ((ctx)->rax)

#define X32_CALL 0x40000000  // __X32_SYSCALL_BIT; the kernel function is the same
#define PLAIN_CALL(id) ((id) & ~(u64)X32_CALL)

// The number of the system call of these user-mode registers.
static __always_inline u64 call_number(u64 user) {
    u64 id = 0;
    bpf_probe_read_kernel(&id, sizeof(id),
                          (void *)(user + __builtin_offsetof(struct pt_regs, orig_rax)));
    return PLAIN_CALL(id);
}

static __always_inline void read_call(struct call *call, u64 user) {
    struct pt_regs regs;
    bpf_probe_read_kernel(&regs, sizeof(regs), (void *)user);
    call->id = PLAIN_CALL(regs.orig_rax);
    call->a = regs.rdi;
    call->b = regs.rsi;
    call->c = regs.rdx;
    call->d = regs.r10;
    call->e = regs.r8;
    call->f = regs.r9;
}

// Whether the thread makes a 32-bit call, with other numbers: int 0x80 in a 64-bit program.
// COMPAT_WORD is the word of a task_struct that says so.
#define TS_COMPAT 2
#define IS_COMPAT(word) ((word) & TS_COMPAT)

#define USER_CODE_64 0x33  // __USER_CS; 32-bit code has another segment, and kernel threads none

static __always_inline bool runs_64_bit_code(u64 user) {
    u16 segment = 0;
    bpf_probe_read_kernel(&segment, sizeof(segment),
                          (void *)(user + __builtin_offsetof(struct pt_regs, cs)));
    return segment == USER_CODE_64;
}

static __always_inline u64 stack_pointer(u64 user) {
    u64 sp = 0;
    bpf_probe_read_kernel(&sp, sizeof(sp),
                          (void *)(user + __builtin_offsetof(struct pt_regs, rsp)));
    return sp;
}

// What a software event of perf gives to its program (struct bpf_perf_event_data).
struct perf_fault {
    struct pt_regs registers;
    u64 period;
    u64 address;
};

// Entries of page tables above the PTE pages.
#define ENTRY_PRESENT 1
#define ENTRY_LEAF 0x80
#define ENTRY_ADDRESS 0x000ffffffffff000ULL

static __always_inline bool entry_is_table(u64 entry) {
    return (entry & (ENTRY_PRESENT | ENTRY_LEAF)) == ENTRY_PRESENT;
}

static __always_inline bool entry_is_leaf(u64 entry) {
    return entry & ENTRY_PRESENT && entry & ENTRY_LEAF;
}
