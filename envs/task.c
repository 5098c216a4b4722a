#include "envs/task.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "base/alloc.h"
#include "base/check.h"
#include "envs/env.h"
#include "envs/task_keys.h"

#define PATH_BYTES  128u
#define DEPTH_MAX   3u
#define PARAMS_PATH "environment.params"

/* In which a run may be; the price of each is a key of the same name. */
static const char *const classes[] = {"f32-1", "bf16-1", "open-openblas", "open-cuda"};
#define N_CLASSES (sizeof(classes) / sizeof(classes[0]))

void task_init(struct task *t)
{
    struct opt table[TASK_KEYS_MAX];
    size_t n;

    memset(t, 0, sizeof(*t));
    n = task_keys(table, t);
    opt_defaults(table, n);
}

void task_clear(struct task *t)
{
    struct opt table[TASK_KEYS_MAX];
    size_t n = task_keys(table, t);

    opt_clear(table, n);
    for (size_t i = 0; i < t->environment.n_params; i++)
        free(t->environment.param[i].text);
    memset(t, 0, sizeof(*t));
}

/* ---- reading the file ---------------------------------------------------------------------- */

/* The mappings we are in, outermost first, as one dotted path. */
struct task_reader {
    struct task *t;
    const char *what;
    struct opt table[TASK_KEYS_MAX];
    size_t n_keys;
    char path[PATH_BYTES];      /* of the key being read, once has_key */
    size_t stem[DEPTH_MAX + 1]; /* length of the path of each mapping */
    size_t depth;               /* mappings entered */
    bool has_key;
    size_t key_line;
    bool is_over; /* the one document ended */
};

static size_t line_of(const yaml_event_t *ev)
{
    return ev->start_mark.line + 1;
}

static enum status refuse(const struct task_reader *r, const yaml_event_t *ev, const char *why,
                          struct err *e)
{
    return err_set(e, ERR_MALFORMED, "%s:%zu: %s", r->what, line_of(ev), why);
}

static bool is_section(const struct task_reader *r, const char *path)
{
    size_t len = strlen(path);

    if (!strcmp(path, PARAMS_PATH))
        return true;
    for (size_t i = 0; i < r->n_keys; i++)
        if (!strncmp(r->table[i].name, path, len) && r->table[i].name[len] == '.')
            return true;
    return false;
}

static enum status read_key(struct task_reader *r, const yaml_event_t *ev, struct err *e)
{
    const char *key = (const char *)ev->data.scalar.value;
    size_t len = ev->data.scalar.length;
    size_t stem = r->stem[r->depth];

    if (len == 0 || len != strlen(key) || strchr(key, '.'))
        return refuse(r, ev, "a key is empty or has a dot or NUL in it", e);
    if (stem + 1 + len + 1 > sizeof(r->path))
        return refuse(r, ev, "a key is too long", e);
    if (stem)
        r->path[stem++] = '.';
    memcpy(r->path + stem, key, len + 1);
    r->has_key = true;
    r->key_line = line_of(ev);
    return OK;
}

static bool is_param_name(const char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '_')
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_')
            return false;
    return true;
}

/* What a plain scalar means, in the manner of YAML's core schema. */
static void param_of_plain(struct task_param *p, const char *text)
{
    char *end;
    long long integer;
    double real;

    if (!strcmp(text, "true") || !strcmp(text, "false")) {
        p->kind = TASK_PARAM_BOOL;
        p->integer = !strcmp(text, "true");
        return;
    }
    errno = 0;
    integer = strtoll(text, &end, 10);
    if (end != text && !*end && !errno) {
        p->kind = TASK_PARAM_INT;
        p->integer = integer;
        return;
    }
    if (isdigit((unsigned char)text[strspn(text, "+-.")]) &&
        strspn(text, "+-.0123456789eE") == strlen(text)) {
        real = strtod(text, &end);
        if (!*end && isfinite(real)) {
            p->kind = TASK_PARAM_REAL;
            p->real = real;
            return;
        }
    }
    p->kind = TASK_PARAM_TEXT;
    p->text = xstrdup(text);
}

static enum status read_param(struct task_reader *r, const yaml_event_t *ev, struct err *e)
{
    const char *name = r->path + strlen(PARAMS_PATH) + 1;
    const char *text = (const char *)ev->data.scalar.value;
    struct task *t = r->t;
    struct task_param *p;

    if (!is_param_name(name) || strlen(name) >= TASK_PARAM_NAME_BYTES)
        return err_set(e, ERR_INVALID,
                       "%s:%zu: '%s' cannot be the name of a parameter "
                       "(letters, digits and '_', at most %u)",
                       r->what, line_of(ev), name, TASK_PARAM_NAME_BYTES - 1);
    for (size_t i = 0; i < t->environment.n_params; i++)
        if (!strcmp(t->environment.param[i].name, name))
            return err_set(e, ERR_INVALID, "%s:%zu: '%s' is given twice", r->what, line_of(ev),
                           r->path);
    if (t->environment.n_params == TASK_PARAMS_MAX)
        return err_set(e, ERR_LIMIT, "%s:%zu: more than %u parameters", r->what, line_of(ev),
                       TASK_PARAMS_MAX);
    p = &t->environment.param[t->environment.n_params];
    memset(p, 0, sizeof(*p));
    memcpy(p->name, name, strlen(name) + 1);
    if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        param_of_plain(p, text);
    } else {
        p->kind = TASK_PARAM_TEXT;
        p->text = xstrdup(text);
    }
    t->environment.n_params++;
    return OK;
}

static enum status read_value(struct task_reader *r, const yaml_event_t *ev, struct err *e)
{
    const char *text = (const char *)ev->data.scalar.value;
    enum status st;

    if (strlen(text) != ev->data.scalar.length)
        return refuse(r, ev, "a value has a NUL in it", e);
    r->has_key = false;
    if (!strncmp(r->path, PARAMS_PATH ".", strlen(PARAMS_PATH) + 1))
        return read_param(r, ev, e);
    for (size_t i = 0; i < r->n_keys; i++)
        if (!strcmp(r->table[i].name, r->path) && r->table[i].was_set)
            return err_set(e, ERR_INVALID, "%s:%zu: '%s' is given twice", r->what, line_of(ev),
                           r->path);
    if (is_section(r, r->path))
        return err_set(e, ERR_INVALID, "%s:%zu: '%s' is a section, not a value", r->what,
                       line_of(ev), r->path);
    st = opt_set(r->table, r->n_keys, r->path, text, e);
    if (st)
        return err_prefix(e, st == ERR_NOT_FOUND ? ERR_INVALID : st, "%s:%zu", r->what,
                          line_of(ev));
    return OK;
}

/* Says that r->path, which has keys below it, is no section, and which there are. */
static enum status refuse_section(const struct task_reader *r, struct err *e)
{
    char names[256] = "";
    size_t len = 0;

    for (size_t i = 0; i < r->n_keys; i++) {
        const char *name = r->table[i].name;
        size_t n = strcspn(name, ".");

        if (!strcmp(name, r->path))
            return err_set(e, ERR_INVALID, "%s:%zu: '%s' is a value, not a section", r->what,
                           r->key_line, r->path);
        if (!name[n] || (i && !strncmp(r->table[i - 1].name, name, n + 1)) ||
            len + n + 3 > sizeof(names))
            continue;
        len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%.*s", len ? ", " : "",
                                (int)n, name);
    }
    return err_set(e, ERR_INVALID,
                   "%s:%zu: unknown section '%s' (there are %s and " PARAMS_PATH ")", r->what,
                   r->key_line, r->path, names);
}

static enum status enter_mapping(struct task_reader *r, const yaml_event_t *ev, struct err *e)
{
    if (r->depth > 0 && !r->has_key)
        return refuse(r, ev, "a mapping cannot be a key", e);
    if (r->has_key && !is_section(r, r->path))
        return refuse_section(r, e);
    if (r->depth == DEPTH_MAX)
        return refuse(r, ev, "nested too deeply", e);
    r->depth++;
    r->stem[r->depth] = r->has_key ? strlen(r->path) : 0;
    r->has_key = false;
    return OK;
}

static enum status read_event(struct task_reader *r, const yaml_event_t *ev, struct err *e)
{
    switch (ev->type) {
    case YAML_STREAM_START_EVENT: return OK;
    case YAML_STREAM_END_EVENT:
        if (!r->is_over)
            return refuse(r, ev, "the file is empty", e);
        return OK;
    case YAML_DOCUMENT_START_EVENT:
        if (r->is_over)
            return refuse(r, ev, "a second document in one file", e);
        return OK;
    case YAML_DOCUMENT_END_EVENT: r->is_over = true; return OK;
    case YAML_MAPPING_START_EVENT: return enter_mapping(r, ev, e);
    case YAML_MAPPING_END_EVENT: r->depth--; return OK;
    case YAML_SCALAR_EVENT:
        if (r->depth == 0)
            return refuse(r, ev, "expected 'key: value' lines", e);
        return r->has_key ? read_value(r, ev, e) : read_key(r, ev, e);
    case YAML_ALIAS_EVENT: return refuse(r, ev, "aliases are not used here", e);
    case YAML_SEQUENCE_START_EVENT: return refuse(r, ev, "lists are not used here", e);
    default: return refuse(r, ev, "not understood", e);
    }
}

static enum status read_yaml(struct task_reader *r, struct bytes yaml, struct err *e)
{
    yaml_parser_t parser;
    yaml_event_t ev;
    enum status st = OK;
    bool is_end = false;

    if (!yaml_parser_initialize(&parser))
        return err_set(e, ERR_NO_MEMORY, "cannot start a YAML parser");
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    /* libyaml aborts on a NULL, which is what an empty file may be. */
    yaml_parser_set_input_string(&parser, yaml.len ? yaml.data : (const uint8_t *)"", yaml.len);
    while (!st && !is_end) {
        if (!yaml_parser_parse(&parser, &ev)) {
            st = err_set(e, ERR_MALFORMED, "%s:%zu: %s%s%s", r->what,
                         parser.problem_mark.line + 1,
                         parser.problem ? parser.problem : "not YAML",
                         parser.context ? " " : "", parser.context ? parser.context : "");
            break;
        }
        is_end = ev.type == YAML_STREAM_END_EVENT;
        st = read_event(r, &ev, e);
        yaml_event_delete(&ev);
    }
    yaml_parser_delete(&parser);
    return st;
}

static void derive(struct task *t)
{
    if (!t->model.kv_heads)
        t->model.kv_heads = t->model.heads;
    if (!t->model.head_dim && t->model.dim % t->model.heads == 0)
        t->model.head_dim = t->model.dim / t->model.heads;
    if (!t->model.ffn)
        t->model.ffn = ((8 * t->model.dim + 2) / 3 + 7) / 8 * 8;
}

enum status task_parse(struct task *t, struct bytes yaml, const char *what, struct err *e)
{
    struct task_reader *r;
    enum status st;

    task_init(t);
    if (yaml.len > TASK_FILE_MAX_BYTES)
        return err_set(e, ERR_LIMIT, "%s: %zu bytes, more than a task file may have (%u)", what,
                       yaml.len, TASK_FILE_MAX_BYTES);
    r = xcalloc(1, sizeof(*r));
    r->t = t;
    r->what = what;
    r->n_keys = task_keys(r->table, t);
    st = read_yaml(r, yaml, e);
    if (st)
        goto out;
    st = opt_check_required(r->table, r->n_keys, e);
    if (!st) {
        derive(t);
        st = task_check(t, e);
    }
    if (st)
        st = err_prefix(e, st, "%s", what);
out:
    free(r);
    if (st) {
        task_clear(t);
        task_init(t);
    }
    return st;
}

/* ---- rules between keys -------------------------------------------------------------------- */

/* Length of the well-formed UTF-8 sequence at s, or 0. */
static size_t utf8_length(const unsigned char *s)
{
    size_t n = s[0] < 0x80                    ? 1
               : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
               : (s[0] & 0xf0) == 0xe0        ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;

    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static enum status check_alphabet(const char *alphabet, struct err *e)
{
    size_t n, len = strlen(alphabet);

    if (!len)
        return err_set(e, ERR_INVALID, "model.alphabet is empty");
    for (size_t at = 0; at < len; at += n) {
        n = utf8_length((const unsigned char *)alphabet + at);
        if (!n)
            return err_set(e, ERR_INVALID, "model.alphabet is not UTF-8 at byte %zu", at);
        for (size_t i = 0; i + n <= at; i++)
            if (!memcmp(alphabet + i, alphabet + at, n))
                return err_set(e, ERR_INVALID, "model.alphabet has '%.*s' twice", (int)n,
                               alphabet + at);
    }
    return OK;
}

static enum status check_model(const struct task *t, struct err *e)
{
    if (strcmp(t->model.init, "random") != 0)
        return OK; /* the model's own config.json says it all */
    if (!t->model.head_dim)
        return err_set(e, ERR_INVALID,
                       "model.dim %" PRId64 " is not a multiple of model.heads %" PRId64
                       ": give model.head_dim",
                       t->model.dim, t->model.heads);
    if (t->model.head_dim % 2)
        return err_set(e, ERR_INVALID,
                       "model.head_dim %" PRId64 " is odd: rotary positions "
                       "turn pairs",
                       t->model.head_dim);
    if (t->model.heads % t->model.kv_heads)
        return err_set(e, ERR_INVALID,
                       "model.heads %" PRId64 " is not a multiple of model.kv_heads %" PRId64,
                       t->model.heads, t->model.kv_heads);
    if (!strcmp(t->model.tokenizer, "char"))
        return check_alphabet(t->model.alphabet, e);
    return OK;
}

/* What the run costs if every answer is as long as it may be. The factors are at most 2^57 in
 * all, prices at most 2^50: reckoned in doubles, whose error does not matter here. */
static double cost_at_most(const struct task *t)
{
    double units = (double)t->algorithm.steps * (double)t->algorithm.units_per_batch;
    double tokens = (double)t->sampling.group * (double)t->sampling.max_new_tokens *
                    (double)t->environment.turns;
    int64_t price = task_price(t, task_numerics(t));

    if (tokens > (double)t->sampling.group * (double)t->model.max_len)
        tokens = (double)t->sampling.group * (double)t->model.max_len;
    return units * (tokens * (double)price + (double)t->budget.fee_full) +
           (double)t->algorithm.steps * (double)t->budget.price_step;
}

static enum status check_money(const struct task *t, struct err *e)
{
    double cost = cost_at_most(t);
    size_t n_paid = 0;

    for (size_t i = 0; i < N_CLASSES; i++)
        n_paid += task_price(t, classes[i]) > 0;
    if (n_paid > 1)
        return err_set(e, ERR_INVALID,
                       "%zu prices are above 0: a run computes in one class, and the prices of "
                       "the others must be 0",
                       n_paid);
    if (!n_paid)
        return err_set(e, ERR_INVALID, "all prices are 0, so no class is accepted at all");
    if (cost > (double)t->budget.deposit)
        return err_set(e, ERR_INVALID,
                       "budget.deposit %" PRId64
                       " is less than what the run may cost: %.0f ucr",
                       t->budget.deposit, cost);
    return OK;
}

enum status task_check(const struct task *t, struct err *e)
{
    enum status st;

    if (!t->name || !t->name[0] || strlen(t->name) > 64)
        return err_set(e, ERR_INVALID, "name must have 1 to 64 bytes");
    for (const char *c = t->name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
            return err_set(e, ERR_INVALID,
                           "name '%s' has other characters than letters, "
                           "digits, '-', '_' and '.'",
                           t->name);
    st = check_model(t, e);
    if (st)
        return st;
    if (t->sampling.max_new_tokens >= t->model.max_len)
        return err_set(e, ERR_INVALID,
                       "sampling.max_new_tokens %" PRId64 " leaves no room for a prompt in "
                       "model.max_len %" PRId64,
                       t->sampling.max_new_tokens, t->model.max_len);
    if (t->sampling.group > TASK_UNIT_TOKENS_MAX / t->model.max_len)
        return err_set(e, ERR_INVALID,
                       "sampling.group %" PRId64 " times model.max_len %" PRId64
                       " is more than %u tokens, which a unit may have",
                       t->sampling.group, t->model.max_len, TASK_UNIT_TOKENS_MAX);
    if (t->acceptance.reward_min >= t->acceptance.reward_max)
        return err_set(e, ERR_INVALID,
                       "acceptance.reward_min %g is not less than acceptance.reward_max %g",
                       t->acceptance.reward_min, t->acceptance.reward_max);
    if (t->algorithm.max_staleness < t->algorithm.lag)
        return err_set(e, ERR_INVALID,
                       "algorithm.max_staleness %" PRId64 " is less than algorithm.lag %" PRId64
                       ", so every unit would be too stale",
                       t->algorithm.max_staleness, t->algorithm.lag);
    if (t->algorithm.grad_lanes & (t->algorithm.grad_lanes - 1))
        return err_set(e, ERR_INVALID,
                       "algorithm.grad_lanes is %" PRId64 ", wants 1, 2, 4 or 8",
                       t->algorithm.grad_lanes);
    if (t->leases.hard_deadline_ms < t->leases.lease_ms)
        return err_set(e, ERR_INVALID,
                       "leases.hard_deadline_ms %" PRId64
                       " is less than leases.lease_ms %" PRId64,
                       t->leases.hard_deadline_ms, t->leases.lease_ms);
    return check_money(t, e);
}

/* ---- printing ------------------------------------------------------------------------------ */

void task_print(struct buf *out, const struct task *t)
{
    struct task copy = *t; /* the table wants to be able to write; its strings stay t's */
    struct opt table[TASK_KEYS_MAX];
    size_t n = task_keys(table, &copy);

    opt_print(out, table, n);
    for (size_t i = 0; i < t->environment.n_params; i++) {
        const struct task_param *p = &t->environment.param[i];

        buf_printf(out, PARAMS_PATH ".%s=", p->name);
        switch (p->kind) {
        case TASK_PARAM_INT: buf_printf(out, "%" PRId64 "\n", p->integer); break;
        case TASK_PARAM_REAL: buf_printf(out, "%.17g\n", p->real); break;
        case TASK_PARAM_BOOL: buf_printf(out, "%s\n", p->integer ? "true" : "false"); break;
        case TASK_PARAM_TEXT: buf_printf(out, "%s\n", p->text); break;
        }
    }
}

/* `|` ends a cell of a table. */
static void put_cell(struct buf *out, const char *text)
{
    for (; *text; text++)
        buf_printf(out, *text == '|' ? "\\%c" : "%c", *text);
}

static void describe_default(struct buf *out, const struct opt *o)
{
    if (!o->def)
        buf_printf(out, "required");
    else if (!strcmp(o->name, "model.alphabet"))
        buf_printf(out, "printable ASCII");
    else if (*o->def)
        buf_printf(out, "`%s`", o->def);
}

void task_describe(struct buf *out)
{
    struct task t;
    struct opt table[TASK_KEYS_MAX];
    size_t n = task_keys(table, &t);

    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "| `%s` | ", table[i].name);
        describe_default(out, &table[i]);
        buf_printf(out, " | ");
        put_cell(out, table[i].range ? table[i].range : "");
        buf_printf(out, " | ");
        put_cell(out, table[i].help);
        buf_printf(out, " |\n");
    }
}

const char *task_numerics(const struct task *t)
{
    for (size_t i = 1; i < N_CLASSES; i++)
        if (task_price(t, classes[i]) > 0)
            return classes[i];
    return classes[0];
}

const char *task_train_numerics(const struct task *t)
{
    const char *numerics = task_numerics(t);

    return strncmp(numerics, "open-", 5) ? numerics : classes[0];
}

int64_t task_price(const struct task *t, const char *numerics)
{
    const int64_t price[N_CLASSES] = {t->prices.f32_1, t->prices.bf16_1,
                                      t->prices.open_openblas, t->prices.open_cuda};

    for (size_t i = 0; i < N_CLASSES; i++)
        if (!strcmp(numerics, classes[i]))
            return price[i];
    return 0;
}
