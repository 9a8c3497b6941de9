// SPDX-License-Identifier: GPL-2.0-only
// Page faults: at their beginning (tracepoints), or at their end, with their outcome.

#define KERNEL_FAULT (1U << 31)
// The error of a fault, as on x86: see Kind.FAULT in shadow/events.py.
#define ERROR_WRITE 2
#define ERROR_USER 4
#define ERROR_EXEC 16
// enum fault_flag and enum vm_fault_reason, include/linux/mm_types.h.
#define FAULT_FLAG_WRITE 0x1
#define FAULT_FLAG_USER 0x40
#define FAULT_FLAG_REMOTE 0x80
#define FAULT_FLAG_INSTRUCTION 0x100
#define VM_FAULT_ERROR 0x873
#define VM_FAULT_RETRY 0x400

static __always_inline int on_fault(struct target *target, u64 address, u64 error, u32 mode) {
    if (target && address < USER_LIMIT)
        emit_with(wish_of_fault(address), target, KIND_FAULT, address, 0, (u32)error | mode);
    return 0;
}

// (unsigned long address, struct pt_regs *regs, unsigned long error_code)
int fault_user_raw(struct bpf_raw_tracepoint_args *ctx) {
    return on_fault(current_target(), ctx->args[0], ctx->args[2], 0);
}

int fault_kernel_raw(struct bpf_raw_tracepoint_args *ctx) {
    return on_fault(current_target(), ctx->args[0], ctx->args[2], KERNEL_FAULT);
}

// PERF_COUNT_SW_PAGE_FAULTS, where nothing else shows faults. It does not say what the thread
// wanted, so the fault counts as a read.
int fault_software(struct perf_fault *ctx) { return on_fault(current_target(), ctx->address, 0, 0); }

// The beginning of a fault, for back ends that make its event at its end.
int fault_begins_raw(struct bpf_raw_tracepoint_args *ctx) {
    if (current_target())
        note_fault(ctx->args[0]);
    return 0;
}

// Whether the current system call fills memory itself; its own event covers its range.
static __always_inline bool in_filling_call(void) {
    u64 id = user_call();
    return id == __NR_mmap || id == __NR_mlock || id == __NR_mlock2 || id == __NR_mlockall ||
           id == __NR_madvise || id == __NR_brk || id == __NR_mremap || id == __NR_mprotect ||
           id == __NR_pkey_mprotect;
}

// The process of a fault: the current one or, if that accesses another process, the other.
static __always_inline struct target *faulting(u64 vma, u64 flags) {
    return flags & FAULT_FLAG_REMOTE ? target_of(field(vma, VMA_MM)) : current_target();
}

// The end of handle_mm_fault. A fault of the processor has registers; without registers the caller
// is get_user_pages, which no tracepoint shows. A fault that is retried comes here again. A fault
// that ends in a signal has made no entry.
static __always_inline int on_fault_done(u64 vma, u64 address, u64 flags, u64 regs, u64 outcome) {
    if (outcome & (VM_FAULT_ERROR | VM_FAULT_RETRY))
        return 0;
    u32 pinned = regs == 0;
    // Without this, clang merges the next test into an OR of the pointer, which 6.1 refuses.
    asm volatile("" : "+r"(pinned));
    if (pinned && !(flags & FAULT_FLAG_REMOTE) && in_filling_call())
        return 0;
    u32 error = 0;
    if (flags & FAULT_FLAG_WRITE)
        error |= ERROR_WRITE;
    if (flags & FAULT_FLAG_INSTRUCTION)
        error |= ERROR_EXEC;
    bool user = flags & FAULT_FLAG_USER;
    struct target *target = faulting(vma, flags);
    if (target && address < USER_LIMIT)
        emit_with(wish_at_end_of_fault(address), target, KIND_FAULT, address, 0,
                  user ? error | ERROR_USER : error | KERNEL_FAULT);
    return 0;
}

// (struct vm_area_struct *vma, unsigned long address, unsigned int flags,
// struct pt_regs *regs)
int fault_fexit(u64 *ctx) { return on_fault_done(ctx[0], ctx[1], ctx[2], ctx[3], (u32)ctx[4]); }

int fault_kprobe(struct pt_regs *ctx) {
    struct target *target = faulting(ARGUMENT_1(ctx), ARGUMENT_3(ctx));
    keep(target, A_FAULT, (struct given){ARGUMENT_2(ctx), ARGUMENT_3(ctx), ARGUMENT_4(ctx),
                                         ARGUMENT_1(ctx)});
    return 0;
}

int fault_kretprobe(struct pt_regs *ctx) {
    struct given was;
    bool kept = take_back(A_FAULT, &was);
    return kept ? on_fault_done(was.d, was.a, was.b, was.c, (u32)RESULT(ctx)) : 0;
}
