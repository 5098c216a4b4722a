#include "engine/ops.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/cpu/attention.h"
#include "engine/cpu/kv_page.h"
#include "engine/cpu/table.h"

/* Rows that go through a product together when no mask comes between them. */
#define WIDE   12u
#define PIECES (ATTENTION_BLOCK / ATTENTION_PAGE)
#define LINE   64u /* of a cache */
/* Of a loop, so that one that is late does not hold up the others (base/pool.h). */
#define TASKS_PER_THREAD 4u

float attention_scale(size_t D)
{
    return (float)(1.0 / sqrt((double)D));
}

void attention_block_load(struct attention_block *b, const float *rows, size_t stride, size_t n,
                          size_t D)
{
    b->rows = rows;
    b->row = stride;
    if (D % PACK_LANES == 0)
        return;
    /* The last panel's lanes must be readable: they are not beyond the end of a cache. */
    b->row = attention_width(D);
    b->rows = b->padded;
    for (size_t i = 0; i < n; i++) {
        memcpy(b->padded + i * b->row, rows + i * stride, D * sizeof(float));
        memset(b->padded + i * b->row + D, 0, (b->row - D) * sizeof(float));
    }
}

/* Consecutive keys of a block that lie together, with their values. Of narrow panels a step counts
 * the words. */
struct piece {
    const float *panels; /* of the keys */
    const float *rows;   /* of the values */
    size_t row;
    size_t at, n; /* first key, counted in the block, and how many */
    struct span next_of_keys, next_of_values; /* read after them */
};

/* Everything one thread works in. */
struct scratch {
    struct attention_block block;
    struct piece piece[PIECES];
    size_t n_pieces;
    bool is_narrow; /* the pieces */
    float q[ATTENTION_ROWS * ATTENTION_D_MAX];
    float p[WIDE * ATTENTION_BLOCK];
    float add[WIDE * ATTENTION_D_MAX]; /* of the block at hand */
    struct attention_sums sums;
};

/* Row i of the chunk sees the first seen(i) keys of the block at b0. */
struct chunk {
    const struct attention_run *run;
    const struct attention_shape *s;
    size_t group; /* the key/value head */
    size_t first; /* row 0 is query first / R, head first % R of the group; R = H / G */
    size_t n;
    struct span then; /* read first when this chunk is done */
};

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t row_position(const struct chunk *c, size_t i)
{
    return c->run->first + (c->first + i) / (c->s->H / c->s->G);
}

static size_t row_seen(const struct chunk *c, size_t i, size_t b0)
{
    size_t end = row_position(c, i) + 1;

    if (end <= b0)
        return 0;
    return min(end - b0, ATTENTION_BLOCK);
}

/* Offset of a row's head in q and out, and its index in lse. */
static size_t row_at(const struct chunk *c, size_t i, size_t stride, size_t width)
{
    size_t R = c->s->H / c->s->G, r = c->first + i;

    return r / R * stride + (c->group * R + r % R) * width;
}

/* The keys that a chunk of this head reads first. */
static struct span first_keys(const struct attention_run *run, size_t group, size_t D,
                              bool is_narrow)
{
    const struct page_head h = page_head(run->pages[0], run->page_at, group, D, is_narrow);

    return page_keys(&h, min(run->first + run->n, ATTENTION_PAGE), D, is_narrow);
}

/* The pages of n_keys keys of the block at b0. They come from memory, so every product fetches what
 * the next one reads, up to the keys of the next block or chunk. */
static void load_pages(struct scratch *w, const struct chunk *c, size_t b0, size_t n_keys)
{
    const struct attention_run *run = c->run;
    const bool narrow = w->is_narrow;
    const size_t D = c->s->D, n = (n_keys + ATTENTION_PAGE - 1) / ATTENTION_PAGE;
    const size_t end = row_position(c, c->n - 1) + 1, b1 = b0 + ATTENTION_BLOCK;
    struct span after_keys,
        after_values = c->then; /* of the piece at hand, the last one first */
    struct page_head h;

    if (b1 < end) {
        h = page_head(run->pages[b1 / ATTENTION_PAGE], run->page_at, c->group, D, narrow);
        after_values = page_keys(&h, min(end - b1, ATTENTION_PAGE), D, narrow);
    }
    for (size_t i = n; i-- > 0;) {
        struct piece *x = &w->piece[i];

        h = page_head(run->pages[b0 / ATTENTION_PAGE + i], run->page_at, c->group, D, narrow);
        *x = (struct piece){.panels = h.keys,
                            .rows = h.values,
                            .row = page_room(attention_width(D), narrow),
                            .at = i * ATTENTION_PAGE,
                            .n = min(n_keys - i * ATTENTION_PAGE, ATTENTION_PAGE),
                            .next_of_keys = after_keys,
                            .next_of_values = after_values};
        after_keys = page_keys(&h, x->n, D, narrow);
        after_values = page_values(&h, x->n, D, narrow);
    }
    w->n_pieces = n;
    w->piece[n - 1].next_of_keys = after_values;
}

/* Fetches what the product does not get to. */
static void fetch_rest(const struct gemm *g)
{
    const size_t lines = g->steps * attention_width(g->cols) / PACK_LANES;

    for (size_t at = lines * LINE; at < g->next.bytes; at += LINE)
        PREFETCH((const char *)g->next.at + at);
}

void attention_multiply(const struct kernels *k, struct gemm *g, bool is_narrow)
{
    if (is_narrow) {
        g->narrow = (const uint32_t *)(const void *)g->b;
        g->b = NULL;
    }
    fetch_rest(g);
    k->gemm(g);
}

void attention_take(const struct kernels *k, struct attention_sums *sums, size_t i,
                    const float *add, size_t D, float m, float l, bool is_first)
{
    float *o = sums->o + i * attention_width(D);

    if (is_first) {
        sums->m[i] = m;
        sums->l[i] = l;
        memcpy(o, add, D * sizeof(float));
        return;
    }
    float top = sums->m[i] > m ? sums->m[i] : m;
    float a = attention_exp(sums->m[i] - top), b = attention_exp(m - top);

    sums->l[i] = fmaf(sums->l[i], a, l * b);
    k->merge(o, add, a, b, D);
    sums->m[i] = top;
}

void attention_finish(const struct kernels *k, const struct attention_sums *sums, size_t i,
                      size_t D, float *out, float *lse)
{
    float log_l;

    k->scale(out, sums->o + i * attention_width(D), 1.0f / sums->l[i], D);
    if (!lse)
        return;
    k->log(&log_l, &sums->l[i], 1);
    *lse = sums->m[i] + log_l;
}

/* Finds, or makes, the pieces of n_keys keys of the block at b0. */
static void load_pieces(const struct kernels *k, struct scratch *w, const struct chunk *c,
                        size_t b0, size_t n_keys)
{
    const struct attention_run *run = c->run;
    const struct attention_shape *s = c->s;
    const size_t D = s->D, key = c->group * D;

    if (run->pages) {
        load_pages(w, c, b0, n_keys);
        return;
    }
    w->n_pieces = 1;
    k->pack(w->block.panels, run->k + b0 * s->k_stride + key, s->k_stride, n_keys, D);
    attention_block_load(&w->block, run->v + b0 * s->v_stride + key, s->v_stride, n_keys, D);
    w->piece[0] =
        (struct piece){w->block.panels, w->block.rows, w->block.row, 0, n_keys, {0}, {0}};
}

/* p = q k for rows lo..hi-1 and the first n_keys keys. */
static void score_keys(const struct kernels *k, struct scratch *w, const struct chunk *c,
                       size_t lo, size_t hi, size_t n_keys)
{
    const size_t width = attention_width(c->s->D), D = c->s->D;

    for (size_t i = 0; i < w->n_pieces && w->piece[i].at < n_keys; i++) {
        const struct piece *x = &w->piece[i];
        struct gemm g = attention_scores(w->p + x->at, w->q + lo * width, width, x->panels,
                                         hi - lo, min(n_keys - x->at, x->n), D);

        g.b_step = page_room(g.b_step, w->is_narrow);
        g.b_panel = page_room(g.b_panel, w->is_narrow);
        g.next = x->next_of_keys;
        attention_multiply(k, &g, w->is_narrow);
    }
}

/* add += p v for `rows` rows of the tile from row i on, over keys lo..hi-1 of the block. */
static void weigh_keys(const struct kernels *k, struct scratch *w, size_t D, size_t i,
                       size_t rows, size_t lo, size_t hi)
{
    const size_t width = attention_width(D);

    for (size_t j = 0; j < w->n_pieces; j++) {
        const struct piece *x = &w->piece[j];
        size_t from = lo > x->at ? lo : x->at, to = min(hi, x->at + x->n);
        struct gemm g = {.c = w->add + i * width,
                         .a = w->p + i * ATTENTION_BLOCK + from,
                         .b = x->rows + (from - x->at) * x->row,
                         .c_row = width,
                         .a_row = ATTENTION_BLOCK,
                         .a_step = 1,
                         .b_step = x->row,
                         .b_panel = page_room(PACK_LANES, w->is_narrow),
                         .rows = rows,
                         .cols = D,
                         .steps = to - from,
                         .resume = from > 0,
                         .next = lo == 0 ? x->next_of_values : (struct span){0}};
        if (from < to)
            attention_multiply(k, &g, w->is_narrow);
    }
}

/* add = P V for rows lo..hi-1: together as far as all of them see, then each on its own. */
static void weigh_values(const struct kernels *k, struct scratch *w, const struct chunk *c,
                         size_t lo, size_t hi, size_t b0)
{
    const size_t common = row_seen(c, lo, b0);

    weigh_keys(k, w, c->s->D, 0, hi - lo, 0, common);
    for (size_t i = lo; i < hi; i++)
        weigh_keys(k, w, c->s->D, i - lo, 1, common, row_seen(c, i, b0));
}

/* Rows lo..hi-1 against the block at b0. */
static void tile_block(const struct kernels *k, struct scratch *w, const struct chunk *c,
                       size_t lo, size_t hi, size_t b0)
{
    const size_t D = c->s->D, width = attention_width(D);
    float m[WIDE], l[WIDE];

    score_keys(k, w, c, lo, hi, row_seen(c, hi - 1, b0));
    for (size_t i = lo; i < hi; i++)
        l[i - lo] = k->softmax(w->p + (i - lo) * ATTENTION_BLOCK, &m[i - lo], c->s->scale,
                               row_seen(c, i, b0));
    weigh_values(k, w, c, lo, hi, b0);
    for (size_t i = lo; i < hi; i++)
        attention_take(k, &w->sums, i, w->add + (i - lo) * width, D, m[i - lo], l[i - lo],
                       b0 == 0);
}

static void chunk_block(const struct kernels *k, struct scratch *w, const struct chunk *c,
                        size_t b0)
{
    const bool is_masked = row_seen(c, 0, b0) < row_seen(c, c->n - 1, b0);
    const size_t tile = is_masked ? ATTENTION_TILE : WIDE;
    size_t skip = 0;

    while (row_seen(c, skip, b0) == 0)
        skip++;
    load_pieces(k, w, c, b0, row_seen(c, c->n - 1, b0));
    for (size_t lo = skip; lo < c->n; lo += tile)
        tile_block(k, w, c, lo, min(c->n, lo + tile), b0);
}

static void chunk_forward(const struct kernels *k, struct scratch *w, const struct chunk *c)
{
    const struct attention_shape *s = c->s;
    const size_t D = s->D, width = attention_width(D);

    for (size_t i = 0; i < c->n; i++)
        memcpy(w->q + i * width, c->run->q + row_at(c, i, s->q_stride, D), D * sizeof(float));
    for (size_t b0 = 0; b0 <= row_position(c, c->n - 1); b0 += ATTENTION_BLOCK)
        chunk_block(k, w, c, b0);
    for (size_t i = 0; i < c->n; i++)
        attention_finish(k, &w->sums, i, D, c->run->out + row_at(c, i, s->out_stride, D),
                         c->run->lse ? c->run->lse + row_at(c, i, s->H, 1) : NULL);
}

struct attention_job {
    const struct kernels *k;
    const struct attention_run *runs;
    size_t n_runs;
    const struct attention_shape *s;
    size_t max_runs; /* of a part that decodes */
    bool is_filed;   /* the keys of all runs */
};

/* What is split into tasks together: a run by its heads and chunks of rows, or neighbours with one
 * query each that share pages by their heads. */
struct part {
    const struct attention_run *run;
    size_t n_runs;
    size_t chunks; /* of one run */
};

static size_t pieces_of(size_t n, size_t most)
{
    return (n + most - 1) / most;
}

static size_t chunks_of(const struct attention_shape *s, const struct attention_run *run)
{
    return pieces_of(run->n * (s->H / s->G), ATTENTION_ROWS);
}

static bool decodes(const struct attention_shape *s, const struct attention_run *run)
{
    return run->pages && run->n == 1 && chunks_of(s, run) == 1;
}

/* They begin with the same page, which was full before this call. */
static bool share_a_page(const struct attention_run *a, const struct attention_run *b)
{
    return a->first >= ATTENTION_PAGE && b->first >= ATTENTION_PAGE &&
           a->pages[0] == b->pages[0];
}

/* The part that begins with run i. */
static struct part part_from(const struct attention_job *j, size_t i)
{
    const struct attention_run *run = &j->runs[i];
    size_t n = 1;

    if (decodes(j->s, run)) {
        while (i + n < j->n_runs && decodes(j->s, run + n) && share_a_page(run, run + n))
            n++;
        n = pieces_of(n, pieces_of(n, j->max_runs));
    }
    return (struct part){run, n, chunks_of(j->s, run)};
}

static size_t part_tasks(const struct attention_job *j, const struct part *p)
{
    return j->s->G * p->chunks;
}

static size_t part_end(const struct attention_job *j, const struct part *p)
{
    return (size_t)(p->run - j->runs) + p->n_runs;
}

/* What task `at` of a part reads first, which may be the first of the next one. */
static struct span next_keys(const struct attention_job *j, const struct part *p, size_t at)
{
    const struct attention_run *run = p->run;
    size_t group = at / p->chunks;

    if (at == part_tasks(j, p)) {
        run += p->n_runs;
        group = 0;
    }
    return run->pages ? first_keys(run, group, j->s->D, cache_is_narrow(j->k))
                      : (struct span){0};
}

/* Task `at` of a part; `then` is read after it. */
static void part_task(const struct attention_job *j, struct scratch *w, const struct part *p,
                      size_t at, struct span then)
{
    const struct attention_shape *s = j->s;
    const size_t group = at / p->chunks, row = at % p->chunks * ATTENTION_ROWS;
    const size_t rows = p->run->n * (s->H / s->G);
    struct chunk c = {p->run, s, group, row, min(rows - row, ATTENTION_ROWS), then};

    for (size_t i = 0; i < p->n_runs; i++)
        if (p->run[i].pages && !j->is_filed)
            page_file(j->k, &p->run[i], s, group);
    if (decodes(s, p->run)) {
        attention_decode(j->k, p->run, p->n_runs, s, group, then);
        return;
    }
    w->is_narrow = p->run->pages && cache_is_narrow(j->k);
    chunk_forward(j->k, w, &c);
}

static void attention_tasks(void *arg, size_t lo, size_t hi)
{
    const struct attention_job *j = arg;
    struct part p = part_from(j, 0);
    size_t first = 0; /* task of the part */
    struct scratch w;

    for (size_t task = lo; task < hi; task++) {
        while (task >= first + part_tasks(j, &p)) {
            first += part_tasks(j, &p);
            p = part_from(j, part_end(j, &p));
        }
        part_task(j, &w, &p, task - first,
                  task + 1 < hi ? next_keys(j, &p, task + 1 - first) : (struct span){0});
    }
}

/* One task is one head of one run. */
static void file_tasks(void *arg, size_t lo, size_t hi)
{
    const struct attention_job *j = arg;

    for (size_t task = lo; task < hi; task++)
        if (j->runs[task / j->s->G].pages)
            page_file(j->k, &j->runs[task / j->s->G], j->s, task % j->s->G);
}

/* How many runs decode together: as many as fit in the rows, but no more than leave enough tasks for all
 * threads if all runs share their pages. */
static size_t most_runs(const struct pool *pool, size_t n_runs, const struct attention_shape *s)
{
    const size_t rows = ATTENTION_ROWS / (s->H / s->G);
    const size_t tasks = pool ? TASKS_PER_THREAD * pool_threads(pool) : 1;
    const size_t even = n_runs * s->G / tasks;

    return rows == 0 || even == 0 ? 1 : min(rows, even);
}

void attention_forward(const struct kernels *k, struct pool *pool,
                       const struct attention_run *runs, size_t n_runs,
                       const struct attention_shape *s)
{
    struct attention_job job = {.k = k, .runs = runs, .n_runs = n_runs, .s = s};
    size_t work = 0, n_tasks = 0;

    CHECK(s->D > 0 && s->D <= ATTENTION_D_MAX && s->G > 0 && s->H % s->G == 0);
    for (size_t i = 0; i < n_runs; i++) {
        work += runs[i].n * (runs[i].first + runs[i].n) * s->H * s->D;
        /* A chunk that is the only one of its head files the keys itself, while they are at hand. */
        job.is_filed = job.is_filed || chunks_of(s, &runs[i]) > 1;
    }
    if (work < ATTENTION_INLINE)
        pool = NULL;
    job.max_runs = most_runs(pool, n_runs, s);
    for (size_t i = 0; i < n_runs;) {
        const struct part p = part_from(&job, i);

        n_tasks += part_tasks(&job, &p);
        i = part_end(&job, &p);
    }
    if (job.is_filed)
        pool_run(pool, n_runs * s->G, 1, file_tasks, &job);
    pool_run(pool, n_tasks, 1, attention_tasks, &job);
}
