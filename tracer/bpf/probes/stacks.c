// SPDX-License-Identifier: GPL-2.0-only
// Stacks of user code, only if they were requested: the registers and up to 8 KiB of the stack at
// an event, in a ring of their own, so that no event is lost for them. tracer/stacks unwinds them.
// A sample and its event have the same thread and time.

// Whether an event gets a stack: it may have made or emptied a PTE page, or it has, as the page
// tables show.
enum stack_wish { NO_STACK, MAYBE, SURELY };

#ifdef WITH_STACKS

#define STACK_BYTES 8192
#define STACK_PAGE 4096  // the smallest page of any host
#define KINDS_WITH_STACK                                                                          \
    (1U << KIND_DONTNEED | 1U << KIND_FREE | 1U << KIND_UNMAP | 1U << KIND_TRUNCATE |             \
     1U << KIND_MAP | 1U << KIND_PROTECT | 1U << KIND_REMAP_TO | 1U << KIND_BRK |                 \
     1U << KIND_POPULATE | 1U << KIND_ADVISE | 1U << KIND_LOCK | 1U << KIND_DETACH)
// Those that can clear entries. The others make PTE pages, which nothing shows afterwards.
#define EMPTYING_KINDS                                                                            \
    (1U << KIND_DONTNEED | 1U << KIND_UNMAP | 1U << KIND_TRUNCATE | 1U << KIND_MAP |              \
     1U << KIND_REMAP_TO | 1U << KIND_BRK | 1U << KIND_ADVISE)

struct stack_sample {
    u64 time;
    u64 address;
    struct pt_regs registers;
    u32 owner;
    u32 tgid;
    u32 tid;
    u32 code;
    u32 kind;
    u32 size;
    u8 data[STACK_BYTES];
};

// What happened to the stacks of an address space: `seen` events qualified, `taken` of them left
// through the ring, `lost` found it full, `unread` had a stack that could not be read. The rest
// was over the rate. `sure` and `sure_taken` are the parts that surely made or emptied a PTE page.
struct stack_counts {
    u64 seen;
    u64 taken;
    u64 sure;
    u64 sure_taken;
    u64 lost;
    u64 unread;
};

// The generic cell rate algorithm: `next` is when the next stack is due, one `interval` after the
// last; a stack may come `ahead` ns too early. Two CPUs at once may both take the same turn.
struct turns {
    u64 interval;
    u64 ahead;
    u64 next;
};

// `all` bounds all stacks, `maybe` those that are not sure. An interval of 0 takes no stacks.
// `direct_map` is where the kernel maps physical memory; 0: unknown.
struct stack_settings {
    struct turns all;
    struct turns maybe;
    u64 direct_map;
};

BPF_RINGBUF_OUTPUT(stacks, STACK_RING_PAGES);
BPF_HASH(stack_counts, u32, struct stack_counts, MAX_TARGETS);
BPF_ARRAY(stack_settings, struct stack_settings, 1);
// How often each process got new code.
BPF_HASH(code_changes, u32, u32, MAX_TARGETS);

// Notes that a process got new code. A record of kind `NO_EVENT` wakes the unwinder, which reads
// the mappings of the process, because they may be gone when it comes to the first stack there.
static __always_inline void code_changed(u32 tgid) {
    u32 zero = 0, *changes = code_changes.lookup_or_try_init(&tgid, &zero);
    struct stack_settings *settings = stack_settings.lookup(&zero);
    if (!changes || !settings || !settings->all.interval)
        return;
    __sync_fetch_and_add(changes, 1);
    struct stack_sample *s = stacks.ringbuf_reserve(sizeof(struct stack_sample));
    if (!s)
        return;
    s->tgid = tgid;
    s->code = *changes;
    s->kind = NO_EVENT;
    stacks.ringbuf_submit(s, BPF_RB_FORCE_WAKEUP);
}

static __always_inline bool is_due(struct turns *turns, u64 time) {
    return turns->next <= time + turns->ahead;
}

static __always_inline void take_turn(struct turns *turns, u64 time) {
    turns->next = (turns->next > time ? turns->next : time) + turns->interval;
}

// A read fails as a whole, so where the stack ends before 8 KiB, this reads up to its last page.
static __always_inline u32 read_stack(u8 *data, u64 from) {
    if (!bpf_probe_read_user(data, STACK_BYTES, (void *)from))
        return STACK_BYTES;
    u64 first = STACK_PAGE - (from & (STACK_PAGE - 1));
    if (bpf_probe_read_user(data, first, (void *)from))
        return 0;
    if (bpf_probe_read_user(data + first, STACK_PAGE, (void *)(from + first)))
        return first;
    return first + STACK_PAGE;
}

static __always_inline void take_stack(u32 owner, enum stack_wish wish, u32 kind, u64 time,
                                       u64 address) {
    u32 zero = 0;
    u64 user = user_regs();
    struct stack_counts none = {};
    struct stack_counts *counts = stack_counts.lookup_or_try_init(&owner, &none);
    struct stack_settings *settings = stack_settings.lookup(&zero);
    if (!counts || !settings || !settings->all.interval ||
        !runs_64_bit_code(user))
        return;
    __sync_fetch_and_add(&counts->seen, 1);
    __sync_fetch_and_add(&counts->sure, wish == SURELY);
    if (!is_due(&settings->all, time))
        return;
    if (wish == MAYBE) {
        if (!is_due(&settings->maybe, time))
            return;
        take_turn(&settings->maybe, time);
    }
    take_turn(&settings->all, time);
    u64 from = stack_pointer(user);
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    u32 *code = code_changes.lookup(&tgid);
    u64 *counted = &counts->lost;
    struct stack_sample *s = stacks.ringbuf_reserve(sizeof(struct stack_sample));
    if (s) {
        s->time = time;
        s->address = address;
        bpf_probe_read_kernel(&s->registers, sizeof(s->registers), (void *)user);
        s->owner = owner;
        s->tgid = tgid;
        s->tid = bpf_get_current_pid_tgid();
        s->code = code ? *code : 0;
        s->kind = kind;
        s->size = read_stack(s->data, from);
        __sync_fetch_and_add(&counts->unread, s->size == 0);
        __sync_fetch_and_add(&counts->sure_taken, wish == SURELY);
        stacks.ringbuf_submit(s, BPF_RB_NO_WAKEUP);
        counted = &counts->taken;
    }
    __sync_fetch_and_add(counted, 1);
}

// mmap removes or makes entries only with these flags.
static __always_inline bool has_stack(u16 kind, u32 aux) {
    if (kind == KIND_MAP)
        return aux & (MAP_FIXED | MAP_POPULATE | MAP_LOCKED) << MAP_FLAGS_SHIFT;
    return kind < 32 && KINDS_WITH_STACK >> kind & 1;
}

#define ENTRIES (1 << ENTRY_BITS)
// The entries of larger PTE pages are too many for a program to look at.
#define LOOKED_AT (ENTRIES > 512 ? 1 : ENTRIES)
// What `pte_page_at` finds instead of a PTE page.
#define NOTHING 0
#define SOMETHING_ELSE 1
#define UNKNOWN 2

// Values pass through here so that the verifier forgets what it knows about them: it would follow
// the rest of a program once for each kind of event and each result of a walk.
struct stack_scratch {
    u64 entries[LOOKED_AT];
    u64 page;
    u64 address;
    u64 length;
    u64 start;
    u64 last;
    u32 kind;
    u32 aux;
    u32 wish;
};

BPF_PERCPU_ARRAY(stack_scratches, struct stack_scratch, 1);

// Makes clang load from memory what it has just stored.
#define FORGET() asm volatile("" : : : "memory")

static __always_inline struct stack_scratch *scratch(void) {
    u32 zero = 0;
    return stack_scratches.lookup(&zero);
}

// The address of the PTE page of the current address space for this address. Nobody can tell
// without the direct map.
static __always_inline u64 pte_page_at(struct stack_scratch *s, u64 address) {
    u32 zero = 0;
    struct stack_settings *settings = stack_settings.lookup(&zero);
    s->page = UNKNOWN;
    if (settings && settings->direct_map) {
        u64 table = field(current_mm(), MM_PGD);
        for (int level = LEVELS - 1; level > 0; level--) {
            u64 index = address >> (SLOT_SHIFT + ENTRY_BITS * (level - 1)) & (ENTRIES - 1);
            u64 entry = field(table, index * sizeof(u64));
            s->page = level > 1 || !entry ? NOTHING : SOMETHING_ELSE;
            if (entry_is_leaf(entry))
                s->page = SOMETHING_ELSE;
            if (!entry_is_table(entry))
                break;
            table = settings->direct_map + (entry & ENTRY_ADDRESS);
            s->page = table;
        }
    }
    FORGET();
    return s->page;
}

// A fault where there is neither a PTE page nor a huge page makes one.
static __always_inline enum stack_wish wish_of_fault(u64 address) {
    struct stack_scratch *s = scratch();
    u64 page = s ? pte_page_at(s, address) : SOMETHING_ELSE;
    return page == NOTHING ? SURELY : page == UNKNOWN ? MAYBE : NO_STACK;
}

// Without branches, because the verifier follows each of them.
static __always_inline bool is_empty(struct stack_scratch *s) {
    u64 any = 0;
#pragma unroll
    for (u32 i = 0; i < LOOKED_AT; i++) {
        any |= s->entries[i];
        asm volatile("" : "+r"(any) : : "memory");  // else clang loads all before it uses any
    }
    return !any;
}

static __always_inline void look_for_empty_page(struct stack_scratch *s, u64 address) {
    u64 page = pte_page_at(s, address);
    if (LOOKED_AT == ENTRIES && page > UNKNOWN && !bpf_probe_read_kernel(s->entries, sizeof(s->entries), (void *)page) &&
        is_empty(s))
        s->wish = SURELY;
    FORGET();
}

// Whether a call gets a stack: it can leave empty PTE pages at both ends of [start, start + size).
// The verifier forgets the event's values.
static __always_inline enum stack_wish wish_of_call(u16 *kind, u32 *aux, u64 *address, u64 *length,
                                                    u64 start, u64 size) {
    struct stack_scratch *s = scratch();
    if (!s)
        return NO_STACK;
    s->kind = *kind;
    s->aux = *aux;
    s->address = *address;
    s->length = *length;
    s->start = start;
    s->last = size ? start + size - 1 : start;
    s->wish = MAYBE;
    FORGET();
    *kind = s->kind;
    *aux = s->aux;
    *address = s->address;
    *length = s->length;
    if (!has_stack(*kind, *aux))
        return NO_STACK;
    if (EMPTYING_KINDS >> *kind & 1) {
        look_for_empty_page(s, s->start);
        look_for_empty_page(s, s->last);
    }
    return s->wish;
}

// The threads in a fault that makes a PTE page, where the event comes only at its end.
BPF_HASH(making, u32, u64, MAX_THREADS);

static __always_inline void note_fault(u64 address) {
    u32 tid = bpf_get_current_pid_tgid();
    if (wish_of_fault(address) != NO_STACK)
        making.update(&tid, &address);
}

static __always_inline enum stack_wish wish_at_end_of_fault(u64 address) {
    u32 tid = bpf_get_current_pid_tgid();
    u64 *begun = making.lookup(&tid);
    if (!begun)
        return NO_STACK;
    bool same = *begun >> SLOT_SHIFT == address >> SLOT_SHIFT;
    making.delete(&tid);
    return same ? SURELY : NO_STACK;
}

#else

static __always_inline void code_changed(u32 tgid) {}
static __always_inline void take_stack(u32 owner, enum stack_wish wish, u32 kind, u64 time,
                                       u64 address) {}
static __always_inline bool has_stack(u16 kind, u32 aux) { return false; }
static __always_inline enum stack_wish wish_of_fault(u64 address) { return NO_STACK; }
static __always_inline enum stack_wish wish_at_end_of_fault(u64 address) { return NO_STACK; }
static __always_inline void note_fault(u64 address) {}
static __always_inline enum stack_wish wish_of_call(u16 *kind, u32 *aux, u64 *address, u64 *length,
                                                    u64 start, u64 size) {
    return NO_STACK;
}

#endif
