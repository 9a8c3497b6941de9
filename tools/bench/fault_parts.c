// SPDX-License-Identifier: GPL-2.0-only
// What a probe does at a page fault, one part more in each program, to measure the cost of each.

BPF_HASH(targets, u32, u64, 65536);
BPF_RINGBUF_OUTPUT(ring, RING_PAGES);

int part_empty(void *ctx) { return 0; }

int part_target(void *ctx) {
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    return targets.lookup(&tgid) != 0;
}

int part_time(void *ctx) {
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    return targets.lookup(&tgid) ? (int)bpf_ktime_get_ns() : 0;
}

int part_event(void *ctx) {
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    if (!targets.lookup(&tgid))
        return 0;
    struct event *e = ring.ringbuf_reserve(sizeof(struct event));
    if (!e)
        return 0;
    e->time = bpf_ktime_get_ns();
    e->address = e->length = e->aux = e->kind = 0;
    e->tgid = e->tid = tgid;
    e->cpu = bpf_get_smp_processor_id();
    ring.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    return 0;
}
