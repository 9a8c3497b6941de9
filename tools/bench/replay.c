// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shadow table's loop in C: faults and zaps, on the same arrays.
 *
 * This is a hand-written version of the code that shadow/table compiles from Python, for
 * comparison. tools.bench.replay builds it with -O2 and passes the places of the counters and the
 * kinds as macros. It stops at an event of another kind, or when the arrays must grow; the caller
 * then has the table apply that event. Huge pages are left out.
 */
#include <stdint.h>

#define SLOT (INT64_C(1) << 21)
#define PAGE_SHIFT 12
#define ENTRIES 512
#define SPARE 8

struct event {
	uint64_t time, address, length;
	uint32_t tgid, tid;
	uint16_t kind, cpu;
	uint32_t aux;
};

struct record {
	uint64_t present[8], lazy[8];
	int64_t slot, emptied;
	int16_t refs, lazies;
	uint8_t live, atomic, huge, made_call;
	int64_t made;
	int32_t made_by, emptied_by;
	uint32_t emptied_pages;
	uint8_t emptied_call, padding[3];
};

struct upper {
	int32_t child[ENTRIES];
	int32_t used, real;
};

struct vma {
	int64_t start, end, flags, file, pgoff, anon;
};

_Static_assert(sizeof(struct record) == RECORD_BYTES && sizeof(struct vma) == VMA_BYTES,
	       "shadow/table has other layouts");

struct state {
	struct upper *upper;
	int32_t *upper_pool;
	struct record *records;
	int32_t *record_pool;
	struct vma *vmas;
	int64_t *counters;
	double *area;
	int64_t uppers, record_count;
};

#define C(name) (s->counters[name])

static int index_at(int64_t address, int level)
{
	return address >> (PAGE_SHIFT + 9 * (level - 1)) & (ENTRIES - 1);
}

static int has(const struct record *r, int policy)
{
	return r->live >> policy & 1;
}

static uint64_t mask(int word, int low, int high)
{
	int first = low - 64 * word, last = high - 64 * word;

	if (first < 0)
		first = 0;
	if (last > 64)
		last = 64;
	if (first == 0 && last == 64)
		return ~UINT64_C(0);
	return ((UINT64_C(1) << (last - first)) - 1) << first;
}

static int set_range(uint64_t *row, const uint64_t *source, int low, int high)
{
	int added = 0;

	for (int w = low >> 6; w < (high + 63) >> 6; w++) {
		uint64_t new = mask(w, low, high) & (source ? source[w] : ~UINT64_C(0)) & ~row[w];

		row[w] |= new;
		added += __builtin_popcountll(new);
	}
	return added;
}

static int clear_range(uint64_t *row, int low, int high)
{
	int removed = 0;

	for (int w = low >> 6; w < (high + 63) >> 6; w++) {
		uint64_t old = mask(w, low, high) & row[w];

		row[w] &= ~old;
		removed += __builtin_popcountll(old);
	}
	return removed;
}

static int any_set(const uint64_t *row, int low, int high)
{
	for (int w = low >> 6; w < (high + 63) >> 6; w++)
		if (mask(w, low, high) & row[w])
			return 1;
	return 0;
}

static void count_empty(struct state *s, struct record *r, int change)
{
	for (int p = 0; p < POLICIES; p++)
		if (has(r, p))
			C(EMPTY + p) += change;
}

static void note_call(struct state *s, const struct event *e)
{
	C(CALL) = e->kind;
	C(CALL_TID) = e->tid;
	if (e->kind == K_FAULT)
		return;
	if (e->kind == K_DONTNEED && e->aux == MADV_DONTNEED_LOCKED)
		C(CALL) |= LOCKED << KIND_BITS;
	C(CALL_LENGTH) = e->length;
}

static void note_made(struct state *s, struct record *r)
{
	r->made = C(NOW);
	r->made_by = C(CALL_TID);
	r->made_call = C(CALL);
}

static void note_emptied(struct state *s, struct record *r)
{
	int64_t pages = C(CALL_LENGTH) >> PAGE_SHIFT;

	r->emptied = C(NOW);
	r->emptied_by = C(CALL_TID);
	r->emptied_call = C(CALL);
	r->emptied_pages = pages < UINT32_MAX ? pages : UINT32_MAX;
}

static void allocate(struct state *s, struct record *r, int policy)
{
	int64_t pages = ++C(TABLES + policy);

	r->live |= 1 << policy;
	if (policy == C(RUNNING))
		note_made(s, r);
	if (pages > C(PEAK + policy))
		C(PEAK + policy) = pages;
	if (r->refs == 0)
		C(EMPTY + policy)++;
}

static void release(struct state *s, struct record *r, int policy)
{
	r->live &= ~(1 << policy);
	C(TABLES + policy)--;
	if (r->refs == 0)
		C(EMPTY + policy)--;
	C(FREED + policy)++;
}

static void added(struct state *s, struct record *r, int count)
{
	if (!count)
		return;
	if (r->refs == 0)
		count_empty(s, r, -1);
	r->refs += count;
	C(REFS) += count;
}

static void clear_entries(struct state *s, struct record *r, int low, int high)
{
	int removed = clear_range(r->present, low, high);

	if (r->lazies)
		r->lazies -= clear_range(r->lazy, low, high);
	if (!removed)
		return;
	r->refs -= removed;
	C(REFS) -= removed;
	if (r->refs == 0) {
		note_emptied(s, r);
		count_empty(s, r, 1);
	}
}

static int find(struct state *s, int64_t address)
{
	int table = 0;

	for (int level = C(LEVELS); level > 1; level--) {
		table = s->upper[table].child[index_at(address, level)];
		if (!table)
			return 0;
	}
	return table;
}

static int find_or_create(struct state *s, int64_t address, int real)
{
	int table = 0, index, record;

	for (int level = C(LEVELS); level > 2; level--) {
		int below = s->upper[table].child[index = index_at(address, level)];

		if (!below) {
			below = C(TABLES_FREE) ? s->upper_pool[--C(TABLES_FREE)] : C(TABLES_USED)++;
			s->upper[table].child[index] = below;
			s->upper[table].used++;
		}
		if (real && !s->upper[below].real) {
			s->upper[below].real = 1;
			C(level == 3 ? PMD_PAGES : level == 4 ? PUD_PAGES : P4D_PAGES)++;
		}
		table = below;
	}
	index = index_at(address, 2);
	record = s->upper[table].child[index];
	if (!record) {
		record = C(RECORDS_FREE) ? s->record_pool[--C(RECORDS_FREE)] : C(RECORDS_USED)++;
		s->records[record].slot = address & -SLOT;
		s->upper[table].child[index] = record;
		s->upper[table].used++;
	}
	return record;
}

static int64_t next_slot(struct state *s, int64_t address, int64_t end)
{
	while (address < end) {
		int table = 0, level = C(LEVELS), index, span;

		while (level > 1) {
			int below = s->upper[table].child[index_at(address, level)];

			if (!below)
				break;
			table = below;
			level--;
		}
		if (level == 1)
			return address;
		index = index_at(address, level) + 1;
		while (index < ENTRIES && !s->upper[table].child[index])
			index++;
		span = PAGE_SHIFT + 9 * (level - 1);
		address = (address >> (span + 9) << (span + 9)) + ((int64_t)index << span);
	}
	return -1;
}

static void visit(struct state *s, struct record *r)
{
	if (r->atomic && r->refs == 0 && has(r, PTE_REF)) {
		release(s, r, PTE_REF);
		r->atomic = 0;
	}
}

static void attempt(struct state *s, struct record *r, int switch_back)
{
	if (!has(r, PTE_REF))
		return;
	C(ATTEMPTS + PTE_REF)++;
	if (!r->atomic) {
		r->atomic = 1;
		C(SWITCHES)++;
	}
	if (r->refs == 0) {
		release(s, r, PTE_REF);
		r->atomic = 0;
	} else if (switch_back && C(POSTED_SWITCH_BACK)) {
		r->atomic = 0;
	}
}

static void look(struct state *s, struct record *r, int policy)
{
	if (!has(r, policy))
		return;
	C(ATTEMPTS + policy)++;
	if (r->refs == 0)
		release(s, r, policy);
}

static int64_t first_overlap(struct state *s, int64_t address)
{
	int64_t low = 0, high = C(VMAS);

	while (low < high) {
		int64_t middle = (low + high) >> 1;

		if (s->vmas[middle].end > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static int lends(const struct vma *near, const struct vma *left, const struct vma *right)
{
	int64_t differ = (left->flags ^ right->flags) & ~(F_FORKED | F_ACCESS);

	return near->anon && !(near->flags & F_FORKED) && left->end == right->start && !differ &&
	       left->file == right->file &&
	       right->pgoff - left->pgoff == (left->end - left->start) >> PAGE_SHIFT;
}

static void ensure_anon_vma(struct state *s, int64_t v)
{
	struct vma *vma = &s->vmas[v];

	if (vma->anon)
		return;
	if (v + 1 < C(VMAS) && lends(vma + 1, vma, vma + 1))
		vma->anon = vma[1].anon;
	else if (v > 0 && lends(vma - 1, vma - 1, vma))
		vma->anon = vma[-1].anon;
	else
		vma->anon = ++C(ANON_VMAS);
}

static void set_entry(struct state *s, struct record *r, int entry)
{
	uint64_t bit = UINT64_C(1) << (entry & 63), was = r->present[entry >> 6] & bit;

	if (r->lazies)
		r->lazies -= clear_range(r->lazy, entry, entry + 1);
	r->present[entry >> 6] |= bit;
	if (!was)
		added(s, r, 1);
}

static void touch(struct state *s, const struct vma *vma, int64_t address, int around)
{
	struct record *r = &s->records[find_or_create(s, address, 1)];
	int entry = (address & (SLOT - 1)) >> PAGE_SHIFT;

	if (r->huge)
		return;
	int known = r->live;

	visit(s, r);
	if (r->live != (1 << POLICIES) - 1)
		for (int p = 0; p < POLICIES; p++)
			if (!has(r, p)) {
				allocate(s, r, p);
				C(REALLOCATED + p) += known != 0;
			}
	set_entry(s, r, entry);
	if (around) {
		int64_t slot = address & -SLOT, low = (vma->start - slot) >> PAGE_SHIFT;
		int64_t high = (vma->end - slot) >> PAGE_SHIFT;

		entry &= -16;
		low = low > entry ? low : entry;
		high = high < entry + 16 ? high : entry + 16;
		if (r->lazies)
			r->lazies -= clear_range(r->lazy, low, high);
		added(s, r, set_range(r->present, 0, low, high));
	}
}

static void fault(struct state *s, int64_t address, uint32_t error)
{
	int64_t v = first_overlap(s, address), allowed = F_ACCESS;
	struct vma *vma = &s->vmas[v];

	if (v < C(VMAS) && vma->start > address) {
		if (vma->flags & F_GROWSDOWN) {
			int64_t page = address >> PAGE_SHIFT << PAGE_SHIFT;

			vma->pgoff -= (vma->start - page) >> PAGE_SHIFT;
			vma->start = page;
		} else {
			v = C(VMAS);
		}
	}
	if (error & 2)
		allowed = F_WRITE;
	else if (error & 16)
		allowed = F_EXEC;
	if (v == C(VMAS) || !(vma->flags & allowed)) {
		C(NO_EFFECT)++;
		return;
	}
	if (vma->flags & F_HUGETLB)
		return;
	if (error & 2 && !(vma->flags & F_SHARED))
		ensure_anon_vma(s, v);
	touch(s, vma, address, vma->flags & F_CACHED && !(error & 3));
}

static void chunk(struct state *s, const struct event *e, int64_t start, int64_t end)
{
	int record = find(s, start), low = (start & (SLOT - 1)) >> PAGE_SHIFT;
	int high = low + ((end - start) >> PAGE_SHIFT);
	struct record *r = &s->records[record];

	if (r->huge)
		return;
	visit(s, r);
	if (e->kind == K_FREE) {
		r->lazies += set_range(r->lazy, r->present, low, high);
		attempt(s, r, !any_set(r->present, low, high));
		return;
	}
	clear_entries(s, r, low, high);
	if (high - low == ENTRIES)
		look(s, r, PT_RECLAIM);
	look(s, r, DONTNEED_ZERO);
	attempt(s, r, 1);
}

static void zap(struct state *s, const struct event *e)
{
	int64_t start = e->address, end = start + e->length;

	for (int64_t v = first_overlap(s, start); v < C(VMAS) && s->vmas[v].start < end; v++) {
		const struct vma *vma = &s->vmas[v];
		int64_t first = start > vma->start ? start : vma->start;
		int64_t last = end < vma->end ? end : vma->end;

		if (e->kind == K_FREE && (vma->file || vma->flags & (F_SHARED | F_HUGETLB | F_LOCKED)))
			return;
		if (e->kind == K_DONTNEED && vma->flags & F_LOCKED && e->aux != MADV_DONTNEED_LOCKED)
			return;
		if (vma->flags & F_HUGETLB)
			continue;
		for (int64_t slot = next_slot(s, first & -SLOT, last); slot >= 0;
		     slot = next_slot(s, slot + SLOT, last))
			chunk(s, e, slot > first ? slot : first, slot + SLOT < last ? slot + SLOT : last);
	}
}

int64_t run(struct state *s, const struct event *events, int64_t first, int64_t count)
{
	for (int64_t i = first; i < count; i++) {
		const struct event *e = &events[i];
		int64_t now = C(NOW), time = e->time;

		if (e->kind != K_FAULT && e->kind != K_DONTNEED && e->kind != K_FREE)
			return i;
		if (C(RECORDS_USED) + 2 > s->record_count || C(TABLES_USED) + SPARE > s->uppers)
			return i;
		if (time > now) {
			if (now) {
				double passed = time - now;

				for (int p = 0; p < POLICIES; p++)
					s->area[p] += passed * C(TABLES + p);
				s->area[POLICIES] += passed;
			}
			C(NOW) = time;
		}
		C(EVENTS + e->kind)++;
		note_call(s, e);
		if (e->kind == K_FAULT)
			fault(s, e->address, e->aux);
		else
			zap(s, e);
	}
	return count;
}
