// SPDX-License-Identifier: GPL-2.0-only
// Changes to page tables, from the functions that make them; no tracepoint shows these.

#define SLOT (1ULL << SLOT_SHIFT)
#define SCAN_SUCCEED 1  // enum scan_result, mm/khugepaged.c

static __always_inline int on_table(u64 mm, u16 kind) {
    struct target *target = current_target();
    if (target && mm == current_mm())
        emit(target, kind, 0, 0, 0);
    return 0;
}

// pmd_install(struct mm_struct *mm, pmd_t *pmd, pgtable_t *pte): adds a PTE page to the tree. If
// another thread was faster, the caller keeps the page.
int table_came_fexit(u64 *ctx) {
    u64 pte = 0;
    func_arg(ctx, 2, &pte);  // the verifier forbids ctx[2], a pointer to a pointer
    return field(pte, 0) == 0 ? on_table(ctx[0], KIND_PTE_ALLOC) : 0;
}

// At the entry, only an existing entry shows that the page will not be added.
int table_came_kprobe(struct pt_regs *ctx) {
    return field(ARGUMENT_2(ctx), 0) == 0 ? on_table(ARGUMENT_1(ctx), KIND_PTE_ALLOC) : 0;
}

// ___pte_free_tlb(struct mmu_gather *tlb, struct page *pte)
int table_went_fentry(u64 *ctx) {
    return on_table(field(ctx[0], MMU_GATHER_MM), KIND_PTE_FREE);
}

int table_went_kprobe(struct pt_regs *ctx) {
    return on_table(field(ARGUMENT_1(ctx), MMU_GATHER_MM), KIND_PTE_FREE);
}

// A collapse of file memory, also by khugepaged, removes PTE pages of all mapping processes.
static __always_inline int on_deferred(u64 mm) {
    struct target *target = target_of(mm);
    if (target)
        emit(target, KIND_PTE_FREE, 0, 0, DEFERRED);
    return 0;
}

// pte_free_defer(struct mm_struct *mm, pgtable_t pgtable): frees it after an RCU grace period
int table_deferred_fentry(u64 *ctx) { return on_deferred(ctx[0]); }

int table_deferred_kprobe(struct pt_regs *ctx) { return on_deferred(ARGUMENT_1(ctx)); }

static __always_inline int on_slot(u64 mm, u64 address, u16 kind) {
    struct target *target = target_of(mm);
    if (target)
        emit(target, kind, address & -SLOT, SLOT, 0);
    return 0;
}

// __split_huge_pmd(struct vm_area_struct *vma, pmd_t *pmd, unsigned long address, ...)
int split_fentry(u64 *ctx) { return on_slot(field(ctx[0], VMA_MM), ctx[2], KIND_SPLIT); }

int split_kprobe(struct pt_regs *ctx) {
    return on_slot(field(ARGUMENT_1(ctx), VMA_MM), ARGUMENT_3(ctx), KIND_SPLIT);
}

// collapse_huge_page(struct mm_struct *mm, unsigned long address, ...)
int collapse_fexit(u64 *ctx) {
    return (u32)returned(ctx) == SCAN_SUCCEED ? on_slot(ctx[0], ctx[1], KIND_COLLAPSE) : 0;
}

int collapse_kprobe(struct pt_regs *ctx) {
    keep(target_of(ARGUMENT_1(ctx)), A_COLLAPSE, (struct given){ARGUMENT_1(ctx), ARGUMENT_2(ctx)});
    return 0;
}

int collapse_kretprobe(struct pt_regs *ctx) {
    struct given was;
    bool done = take_back(A_COLLAPSE, &was) && (u32)RESULT(ctx) == SCAN_SUCCEED;
    return done ? on_slot(was.a, was.b, KIND_COLLAPSE) : 0;
}

// The kernel unmaps all pages of a folio that lie in the VMA. Anonymous memory goes to swap,
// except after MADV_FREE.
static __always_inline int on_unmapped(u64 folio, u64 vma, u64 address) {
    struct target *target = target_of(field(vma, VMA_MM));
    if (!target)
        return 0;
    u64 length = PAGE;
    u64 flags = field(folio, 0);
    bool anonymous = field(folio, FOLIO_MAPPING) & 1;
    u32 aux = anonymous && flags & (1ULL << PG_SWAPBACKED) ? 0 : DISCARDED;
    if (flags & (1ULL << PG_HEAD)) {
        u64 left = field(vma, VMA_END) - address;
        length = (u64)(u32)field(folio, FOLIO_PAGES) << PAGE_SHIFT;
        if (length > left)
            length = left;
    }
    emit(target, KIND_RECLAIM, address, length, aux);
    return 0;
}

// try_to_unmap_one(struct folio *folio, struct vm_area_struct *vma, unsigned long address,
// void *flags): true if it unmapped all pages
int unmapped_fexit(u64 *ctx) {
    return (u8)returned(ctx) ? on_unmapped(ctx[0], ctx[1], ctx[2]) : 0;
}

int unmapped_kprobe(struct pt_regs *ctx) {
    struct target *target = target_of(field(ARGUMENT_2(ctx), VMA_MM));
    keep(target, AN_UNMAPPING, (struct given){ARGUMENT_1(ctx), ARGUMENT_2(ctx), ARGUMENT_3(ctx)});
    return 0;
}

int unmapped_kretprobe(struct pt_regs *ctx) {
    struct given was;
    bool done = take_back(AN_UNMAPPING, &was) && (u8)RESULT(ctx);
    return done ? on_unmapped(was.a, was.b, was.c) : 0;
}
