#include "envs/script.h"

#include <ctype.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "envs/det_math.h"
#include "envs/script_lib.h"

/* Registry slots; Lua uses 1 and 2, and luaL_ref is not used. */
enum { SLOT_MODULE = 10, SLOT_DATASET };

static const char *const function_names[] = {[SCRIPT_PROMPT] = "prompt",
                                             [SCRIPT_DEMO] = "demo",
                                             [SCRIPT_STEP] = "step",
                                             [SCRIPT_SCORE] = "score"};

/* ---- what the linker puts in Lua's hands (see CMakeLists.txt) ------------------------------- */

/* The linker's `--wrap` prescribes the names: NOLINTBEGIN(bugprone-reserved-identifier) */
unsigned int __wrap_luaS_hash(const char *text, size_t len, unsigned int seed);
double __wrap_pow(double x, double y);
/* NOLINTEND(bugprone-reserved-identifier) */

/* lstate.c hashes the time and some addresses into a state's seed by this function, and calls
 * it for nothing else; strings are hashed by lstring.c's own. */
unsigned int __wrap_luaS_hash(const char *text, size_t len, unsigned int seed)
{
    (void)text;
    (void)len;
    (void)seed;
    return 0x6d757374u;
}

double __wrap_pow(double x, double y)
{
    return det_pow(x, y);
}

/* ---- limits -------------------------------------------------------------------------------- */

struct script *script_of(lua_State *L)
{
    struct script **slot = lua_getextraspace(L);

    return *slot;
}

static void count_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    script_raise_if_over(L);
    script_charge(L, ENV_COUNT_STEP);
}

void script_raise_if_over(lua_State *L)
{
    struct script *s = script_of(L);

    if (s->is_out_of_count)
        luaL_error(L, "instruction limit reached");
    if (arena_is_over(s->arena))
        luaL_error(L, "memory limit reached");
}

void script_charge(lua_State *L, uint64_t n)
{
    struct script *s = script_of(L);

    s->counted += n;
    if (s->counted > s->src->instructions && !s->is_out_of_count) {
        s->is_out_of_count = true;
        /* From here on at each instruction: pcall shall not bring the call back to life. */
        lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
    }
    script_raise_if_over(L);
}

static void *allocate(void *arg, void *p, size_t old_n, size_t n)
{
    struct script *s = arg;

    /* For a new object old_n is a kind of object, not a size. */
    return arena_realloc(s->arena, p, p ? old_n : 0, n);
}

static void begin_counting(struct script *s)
{
    s->counted = 0;
    s->is_out_of_count = false;
    lua_sethook(s->L, count_hook, LUA_MASKCOUNT, ENV_COUNT_STEP);
}

/* Copies the error on the stack's top, one printable line. */
static void copy_why(lua_State *L, char *why, size_t cap)
{
    size_t len = 0, n = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;

    if (!text) {
        snprintf(why, cap, "(error object is a %s)", luaL_typename(L, -1));
        return;
    }
    while (n < len && n + 1 < cap) {
        why[n] = isprint((unsigned char)text[n]) ? text[n] : '?';
        n++;
    }
    why[n] = '\0';
}

/* Runs f in protected mode with everything counted. */
static enum script_end run_protected(struct script *s, lua_CFunction f, char *why, size_t cap)
{
    int rc;

    why[0] = '\0';
    begin_counting(s);
    lua_pushcfunction(s->L, f);
    rc = lua_pcall(s->L, 0, 0, 0);
    if (s->json)
        json_decref(s->json);
    s->json = NULL;
    if (s->is_out_of_count) {
        snprintf(why, cap, "instruction limit of %" PRIu64 " reached", s->src->instructions);
        return SCRIPT_LIMIT;
    }
    if (arena_is_over(s->arena)) {
        snprintf(why, cap, "memory limit reached");
        return SCRIPT_LIMIT;
    }
    if (rc) {
        copy_why(s->L, why, cap);
        return SCRIPT_ERROR;
    }
    return SCRIPT_DONE;
}

/* ---- loading ------------------------------------------------------------------------------- */

static void push_params(lua_State *L, const struct script_source *src)
{
    lua_createtable(L, 0, (int)src->n_params);
    for (size_t i = 0; i < src->n_params; i++) {
        const struct task_param *p = &src->param[i];

        switch (p->kind) {
        case TASK_PARAM_INT: lua_pushinteger(L, p->integer); break;
        case TASK_PARAM_REAL: lua_pushnumber(L, p->real); break;
        case TASK_PARAM_BOOL: lua_pushboolean(L, p->integer != 0); break;
        case TASK_PARAM_TEXT: lua_pushstring(L, p->text); break;
        }
        lua_setfield(L, -2, p->name);
    }
}

/* Calls the module's load, if there is one, and keeps the numbers of problems. */
static void call_load(lua_State *L, struct script *s)
{
    lua_getfield(L, -1, "load");
    if (lua_isnil(L, -1)) {
        /* The rows of the dataset, of which the last eighth is held out; or one problem. */
        s->is_default_load = s->n_rows > 0;
        s->n_heldout = s->n_rows < 2 ? 1 : (s->n_rows + 7) / 8;
        s->n_tasks = s->n_rows < 2 ? 1 : s->n_rows - s->n_heldout;
        lua_pop(L, 1);
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, SLOT_DATASET);
    lua_call(L, 1, 2);
    if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) < 1)
        luaL_error(L, "load must return the number of tasks, an integer of at least 1");
    s->n_tasks = (uint64_t)lua_tointeger(L, -2);
    if (lua_isnil(L, -1))
        s->n_heldout = s->n_tasks;
    else if (lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1)
        s->n_heldout = (uint64_t)lua_tointeger(L, -1);
    else
        luaL_error(L, "load's second result must be the number of held-out tasks, at least 1");
    lua_pop(L, 2);
}

static int load_protected(lua_State *L)
{
    struct script *s = script_of(L);
    int type;

    script_lib_open(L);
    script_push_dataset(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, SLOT_DATASET);
    lua_setglobal(L, "dataset");
    push_params(L, s->src);
    lua_setglobal(L, "params");
    if (luaL_loadbufferx(L, (const char *)s->src->lua.data, s->src->lua.len, "=env.lua", "t"))
        lua_error(L);
    lua_call(L, 0, 1);
    if (!lua_istable(L, -1))
        luaL_error(L, "the script must return a table of functions, not a %s",
                   luaL_typename(L, -1));
    for (int op = SCRIPT_PROMPT; op <= SCRIPT_SCORE; op++) {
        type = lua_getfield(L, -1, function_names[op]);
        s->has[op] = type == LUA_TFUNCTION;
        if (!s->has[op] && (type != LUA_TNIL || op == SCRIPT_PROMPT || op == SCRIPT_SCORE))
            luaL_error(L, "the script's table has no function '%s'", function_names[op]);
        lua_pop(L, 1);
    }
    call_load(L, s);
    lua_rawseti(L, LUA_REGISTRYINDEX, SLOT_MODULE);
    return 0;
}

/* Where the rows begin: every line with something on it. */
static void index_rows(struct script *s)
{
    struct bytes data = s->src->data;
    size_t n = 1;

    for (size_t i = 0; i < data.len; i++)
        n += data.data[i] == '\n';
    s->line = xcalloc(n + 1, sizeof(*s->line));
    for (size_t at = 0; at < data.len;) {
        const uint8_t *end = memchr(data.data + at, '\n', data.len - at);
        size_t next = end ? (size_t)(end - data.data) + 1 : data.len;

        if (next - at > 1 || data.data[at] != '\n') {
            s->line[s->n_rows++] = at;
            s->line[s->n_rows] = next;
        }
        at = next;
    }
}

enum status script_open(struct script **out, const struct script_source *src, struct err *e)
{
    struct script *s = xcalloc(1, sizeof(*s));
    enum status st;

    buf_init(&s->text, ENV_TEXT_MAX_BYTES);
    s->src = src;
    index_rows(s);
    st = arena_open(&s->arena, src->memory_bytes, e);
    if (st)
        script_close(&s);
    *out = s;
    return st;
}

enum status script_load(struct script *s, struct err *e)
{
    struct script **slot;
    char why[256];
    enum script_end end;

    CHECK(!s->L);
    s->L = lua_newstate(allocate, s);
    if (!s->L)
        return err_set(e, ERR_LIMIT, "%" PRIu64 " bytes are too few for a Lua state",
                       s->src->memory_bytes);
    lua_gc(s->L, LUA_GCSTOP);
    slot = lua_getextraspace(s->L);
    *slot = s;
    s->rng = rng_of(0, 0);
    end = run_protected(s, load_protected, why, sizeof(why));
    if (end)
        return err_set(e, end == SCRIPT_LIMIT ? ERR_LIMIT : ERR_INVALID, "%s%s",
                       end == SCRIPT_LIMIT ? "env.lua: " : "", why);
    lua_settop(s->L, 0);
    return arena_save(s->arena, e);
}

void script_close(struct script **sp)
{
    struct script *s = *sp;

    if (!s)
        return;
    arena_close(&s->arena); /* no lua_close: there is nothing outside the block to give back */
    buf_clear(&s->text);
    free(s->line);
    free(s);
    *sp = NULL;
}

uint64_t script_n_tasks(const struct script *s)
{
    return s->n_tasks;
}

bool script_has(const struct script *s, enum script_op op)
{
    return s->has[op];
}

void script_prepare(void)
{
    setlocale(LC_ALL, "C");
    json_object_seed(1); /* otherwise it opens /dev/urandom at first use */
}

/* ---- calling ------------------------------------------------------------------------------- */

/* Pushes the table that describes the problem. */
static void push_problem(lua_State *L, const struct script *s, const struct env_problem *p)
{
    bool is_heldout = p->split == ENV_HELDOUT;
    uint64_t n = is_heldout ? s->n_heldout : s->n_tasks;
    uint64_t index = p->index % n;

    lua_createtable(L, 0, 4);
    lua_pushinteger(L, (lua_Integer)index + 1);
    lua_setfield(L, -2, "index");
    lua_pushinteger(L, (lua_Integer)p->seed);
    lua_setfield(L, -2, "seed");
    lua_pushstring(L, is_heldout ? "heldout" : "train");
    lua_setfield(L, -2, "split");
    if (s->is_default_load) {
        uint64_t row = is_heldout ? s->n_tasks + index : index;

        script_push_row(L, row < s->n_rows ? (size_t)row : 0); /* one row serves both */
        lua_setfield(L, -2, "row");
    }
}

static void push_messages(lua_State *L, const struct script_call *call)
{
    lua_createtable(L, (int)call->n_messages, 0);
    for (size_t i = 0; i < call->n_messages; i++) {
        const struct env_message *m = &call->message[i];

        lua_createtable(L, 0, 2);
        lua_pushstring(L, m->author == ENV_MODEL ? "model" : "world");
        lua_setfield(L, -2, "role");
        lua_pushlstring(L, (const char *)m->text.data, m->text.len);
        lua_setfield(L, -2, "text");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void take_text(lua_State *L, struct script *s, const char *function)
{
    struct bytes text;

    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "%s must return a string, not a %s", function, luaL_typename(L, -1));
    text.data = (const uint8_t *)lua_tolstring(L, -1, &text.len);
    if (text.len > ENV_TEXT_MAX_BYTES)
        luaL_error(L, "%s returned more than %d bytes", function, (int)ENV_TEXT_MAX_BYTES);
    buf_append(&s->text, text);
}

static void take_metric(lua_State *L, struct script_result *out)
{
    struct env_metric *m;
    size_t len;
    const char *name;

    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TNUMBER)
        luaL_error(L, "metrics must be numbers by name");
    name = lua_tolstring(L, -2, &len);
    if (len == 0 || len >= ENV_METRIC_BYTES || strlen(name) != len)
        luaL_error(L, "a metric's name must have 1 to %d bytes", (int)ENV_METRIC_BYTES - 1);
    for (size_t i = 0; i < len; i++)
        if (!isprint((unsigned char)name[i]))
            luaL_error(L, "a metric's name must be printable");
    if (!isfinite(lua_tonumber(L, -1)))
        luaL_error(L, "metric '%s' is not finite", name);
    if (out->n_metrics == ENV_METRICS_MAX)
        luaL_error(L, "more than %d metrics", (int)ENV_METRICS_MAX);
    m = &out->metric[out->n_metrics++];
    memcpy(m->name, name, len + 1);
    m->value = lua_tonumber(L, -1);
}

static int compare_metrics(const void *a, const void *b)
{
    return strcmp(((const struct env_metric *)a)->name, ((const struct env_metric *)b)->name);
}

/* The results of score: a number, and perhaps a table of metrics. */
static void take_score(lua_State *L, struct script_result *out)
{
    if (lua_type(L, -2) != LUA_TNUMBER)
        luaL_error(L, "score must return a number, not a %s", luaL_typename(L, -2));
    out->reward = lua_tonumber(L, -2);
    if (lua_isnil(L, -1))
        return;
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        take_metric(L, out);
        lua_pop(L, 1);
    }
    qsort(out->metric, out->n_metrics, sizeof(out->metric[0]), compare_metrics);
}

static int call_protected(lua_State *L)
{
    struct script *s = script_of(L);
    const struct script_call *call = s->call;
    const char *function = function_names[call->op];
    bool has_messages = call->op == SCRIPT_STEP || call->op == SCRIPT_SCORE;

    lua_rawgeti(L, LUA_REGISTRYINDEX, SLOT_MODULE);
    lua_getfield(L, -1, function);
    push_problem(L, s, &call->problem);
    if (has_messages)
        push_messages(L, call);
    lua_call(L, has_messages ? 2 : 1, 2);
    switch (call->op) {
    case SCRIPT_PROMPT:
    case SCRIPT_DEMO:
        lua_pop(L, 1);
        take_text(L, s, function);
        break;
    case SCRIPT_STEP:
        lua_pop(L, 1);
        s->out->is_done = lua_isnil(L, -1);
        if (!s->out->is_done)
            take_text(L, s, function);
        break;
    case SCRIPT_SCORE: take_score(L, s->out); break;
    }
    return 0;
}

void script_run(struct script *s, const struct script_call *call, struct script_result *out)
{
    memset(out, 0, sizeof(*out));
    buf_reset(&s->text);
    if (!s->has[call->op]) {
        out->end = SCRIPT_ABSENT;
        return;
    }
    arena_restore(s->arena);
    s->call = call;
    s->out = out;
    s->rng = rng_of(call->problem.seed, 0);
    out->end = run_protected(s, call_protected, out->why, sizeof(out->why));
    s->call = NULL;
    s->out = NULL;
    if (out->end) {
        buf_reset(&s->text);
        out->n_metrics = 0;
        out->reward = 0.0;
        out->is_done = false;
    }
    out->text = buf_bytes(&s->text);
    out->usage.instructions = s->counted;
    out->usage.memory_bytes = arena_taken(s->arena);
}
