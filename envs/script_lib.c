#include "envs/script_lib.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include <lualib.h>
#include <sodium.h>

#include "base/check.h"
#include "envs/det_math.h"

#define JSON_DEPTH_MAX      32
#define JSON_TEXT_MAX_BYTES (1u << 20)

/* ---- what is taken from Lua's own libraries ------------------------------------------------ */

static const char *const base_names[] = {
    "assert", "error",    "getmetatable", "pcall", "rawequal", "rawget",   "rawlen", "rawset",
    "select", "tonumber", "setmetatable", "type",  "xpcall",   "_VERSION", NULL};
static const char *const string_names[] = {"byte", "char",  "find",   "gmatch", "gsub",
                                           "len",  "lower", "match",  "rep",    "reverse",
                                           "sub",  "upper", "format", NULL};
static const char *const table_names[] = {"concat", "insert", "move", "pack",
                                          "remove", "unpack", NULL};
static const char *const math_names[] = {
    "abs",  "ceil", "floor", "fmod", "max",       "min",        "modf",       "sqrt",
    "type", "ult",  "pi",    "huge", "tointeger", "maxinteger", "mininteger", NULL};
static const char *const utf8_names[] = {"char", "charpattern", "codepoint",
                                         "len",  "offset",      NULL};

/* Pushes what is on the top again, C functions as closures: a closure is an object with a fixed
 * address in the arena, while a bare C function is a code address, which differs. */
static void push_closed(lua_State *L)
{
    lua_CFunction f = lua_tocfunction(L, -1);

    if (f) {
        lua_pushnil(L);
        lua_pushcclosure(L, f, 1);
    } else {
        lua_pushvalue(L, -1);
    }
}

/* Pushes a new table with the `names` of the table on the top. */
static void push_chosen(lua_State *L, const char *const *names)
{
    lua_newtable(L);
    for (; *names; names++) {
        lua_getfield(L, -2, *names);
        push_closed(L);
        lua_setfield(L, -3, *names);
        lua_pop(L, 1);
    }
}

/* Opens a library of Lua's and leaves its chosen part on the stack. */
static void push_library(lua_State *L, lua_CFunction open, const char *const *names)
{
    lua_pushcfunction(L, open);
    lua_call(L, 0, 1);
    push_chosen(L, names);
    lua_remove(L, -2);
}

static void set_functions(lua_State *L, const luaL_Reg *functions)
{
    for (; functions->name; functions++) {
        lua_pushnil(L);
        lua_pushcclosure(L, functions->func, 1);
        lua_setfield(L, -2, functions->name);
    }
}

/* ---- text ---------------------------------------------------------------------------------- */

/* Pushes the text of the value at `index`: no addresses, and one way to write "not a number". */
static void push_text(lua_State *L, int index)
{
    int type = lua_type(L, index);

    index = lua_absindex(L, index);
    if (type == LUA_TNUMBER && !lua_isinteger(L, index) && isnan(lua_tonumber(L, index))) {
        lua_pushliteral(L, "nan");
        return;
    }
    if (type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TBOOLEAN ||
        type == LUA_TNIL) {
        luaL_tolstring(L, index, NULL);
        return;
    }
    if (luaL_getmetafield(L, index, "__tostring") != LUA_TNIL) {
        lua_pop(L, 1);
        luaL_tolstring(L, index, NULL);
        return;
    }
    lua_pushstring(L, lua_typename(L, type));
}

static int lib_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    push_text(L, 1);
    return 1;
}

static void refuse_pointers(lua_State *L, const char *format)
{
    while ((format = strchr(format, '%'))) {
        format += 1 + strspn(format + 1, "-+ #0123456789.");
        if (*format == 'p')
            luaL_error(L, "'%%p' would show an address");
        if (*format)
            format++;
    }
}

/* Lua's own runs the handler where the error was raised. If that is the hook that counts, hooks
 * are off, and the handler would run uncounted. Here it runs after the unwinding. */
static int lib_xpcall(lua_State *L)
{
    int n = lua_gettop(L);

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); /* function, handler, true, function, arguments */
    if (lua_pcall(L, n - 2, LUA_MULTRET, 0) == LUA_OK)
        return lua_gettop(L) - 2;
    lua_pushvalue(L, 2);
    lua_insert(L, -2);
    lua_pcall(L, 1, 1, 0); /* what the handler returns, or how it failed itself */
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* Upvalue 1: string.format. */
static int lib_format(lua_State *L)
{
    int n = lua_gettop(L);

    refuse_pointers(L, luaL_checkstring(L, 1));
    for (int i = 2; i <= n; i++) {
        int type = lua_type(L, i);

        if (type == LUA_TNUMBER && !lua_isinteger(L, i) && isnan(lua_tonumber(L, i))) {
            lua_pushnumber(L, copysign((lua_Number)NAN, 1.0));
            lua_replace(L, i);
        } else if (type > LUA_TNUMBER && type != LUA_TSTRING) {
            push_text(L, i);
            lua_replace(L, i);
        }
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, n, 1);
    return 1;
}

/* ---- numbers ------------------------------------------------------------------------------- */

#define MATH_1(name)                                                                           \
    static int lib_##name(lua_State *L)                                                        \
    {                                                                                          \
        lua_pushnumber(L, det_##name(luaL_checknumber(L, 1)));                                 \
        return 1;                                                                              \
    }
MATH_1(exp)
MATH_1(sin)
MATH_1(cos)
MATH_1(tan)
MATH_1(asin)
MATH_1(acos)
#undef MATH_1

static int lib_atan(lua_State *L)
{
    lua_pushnumber(L, det_atan2(luaL_checknumber(L, 1), luaL_optnumber(L, 2, 1.0)));
    return 1;
}

static int lib_log(lua_State *L)
{
    lua_Number x = luaL_checknumber(L, 1);

    if (lua_isnoneornil(L, 2)) {
        lua_pushnumber(L, det_log(x));
        return 1;
    }
    lua_Number base = luaL_checknumber(L, 2);
    if (base == 2.0)
        lua_pushnumber(L, det_log2(x));
    else if (base == 10.0)
        lua_pushnumber(L, det_log10(x));
    else
        lua_pushnumber(L, det_log(x) / det_log(base));
    return 1;
}

/* As Lua's: () in [0, 1), (0) all bits, (m) in [1, m], (m, n) in [m, n]. */
static int lib_random(lua_State *L)
{
    struct rng *rng = &script_of(L)->rng;
    lua_Integer lo = 1, hi;
    uint64_t span, value;

    switch (lua_gettop(L)) {
    case 0: lua_pushnumber(L, (lua_Number)(rng_u64(rng) >> 11) * 0x1p-53); return 1;
    case 1:
        hi = luaL_checkinteger(L, 1);
        if (hi == 0) {
            lua_pushinteger(L, (lua_Integer)rng_u64(rng));
            return 1;
        }
        break;
    case 2:
        lo = luaL_checkinteger(L, 1);
        hi = luaL_checkinteger(L, 2);
        break;
    default: return luaL_error(L, "wrong number of arguments");
    }
    luaL_argcheck(L, lo <= hi, lua_gettop(L), "interval is empty");
    span = (uint64_t)hi - (uint64_t)lo;
    value = (uint64_t)lo + (span == UINT64_MAX ? rng_u64(rng) : rng_below(rng, span + 1));
    lua_pushinteger(L, (lua_Integer)value);
    return 1;
}

static int lib_randomseed(lua_State *L)
{
    script_of(L)->rng = rng_of((uint64_t)luaL_checkinteger(L, 1), 1);
    return 0;
}

/* ---- data ---------------------------------------------------------------------------------- */

static void push_json(lua_State *L, const json_t *v, int depth)
{
    const char *key;
    json_t *item;
    size_t i;

    if (depth > JSON_DEPTH_MAX)
        luaL_error(L, "JSON nested more than %d deep", JSON_DEPTH_MAX);
    luaL_checkstack(L, 4, "JSON");
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        lua_newtable(L);
        json_object_foreach((json_t *)v, key, item)
        {
            lua_pushstring(L, key);
            push_json(L, item, depth + 1);
            lua_rawset(L, -3);
        }
        break;
    case JSON_ARRAY:
        lua_createtable(L, (int)json_array_size(v), 0);
        json_array_foreach(v, i, item)
        {
            push_json(L, item, depth + 1);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        break;
    case JSON_STRING: lua_pushlstring(L, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: lua_pushinteger(L, json_integer_value(v)); break;
    case JSON_REAL: lua_pushnumber(L, json_real_value(v)); break;
    case JSON_TRUE: lua_pushboolean(L, 1); break;
    case JSON_FALSE: lua_pushboolean(L, 0); break;
    case JSON_NULL: lua_pushnil(L); break;
    }
}

/* Pushes the value of a JSON text; raises what is wrong with it, after `what`. */
static void push_json_text(lua_State *L, struct bytes text, const char *what)
{
    struct script *s = script_of(L);
    json_error_t error;

    script_charge(L, text.len / 16);
    if (text.len > JSON_TEXT_MAX_BYTES)
        luaL_error(L, "%s: more than %d bytes", what, (int)JSON_TEXT_MAX_BYTES);
    if (s->json)
        json_decref(s->json);
    s->json = json_loadb((const char *)text.data, text.len,
                         JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (!s->json)
        luaL_error(L, "%s: column %d: %s", what, error.column, error.text);
    push_json(L, s->json, 0);
}

static int lib_json_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);

    push_json_text(L, (struct bytes){(const uint8_t *)text, len}, "json");
    return 1;
}

void script_push_row(lua_State *L, size_t i)
{
    struct script *s = script_of(L);
    char what[48];

    CHECK(i < s->n_rows);
    snprintf(what, sizeof(what), "data.jsonl row %zu", i + 1);
    push_json_text(L, bytes_slice(s->src->data, s->line[i], s->line[i + 1] - s->line[i]), what);
}

static int dataset_index(lua_State *L)
{
    int is_integer;
    lua_Integer i = lua_tointegerx(L, 2, &is_integer);

    if (!is_integer || i < 1 || (lua_Unsigned)i > script_of(L)->n_rows)
        return 0;
    script_push_row(L, (size_t)i - 1);
    return 1;
}

static int dataset_len(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)script_of(L)->n_rows);
    return 1;
}

void script_push_dataset(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__index", dataset_index}, {"__len", dataset_len}, {NULL, NULL}};

    lua_newuserdatauv(L, 0, 0);
    lua_newtable(L);
    set_functions(L, meta);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

/* One text in eight is held out, whatever the seed it was drawn from. */
static int lib_split(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    uint8_t digest[crypto_generichash_BYTES_MIN];

    script_charge(L, len / 16);
    crypto_generichash(digest, sizeof(digest), (const uint8_t *)text, len, NULL, 0);
    lua_pushstring(L, digest[0] % 8 == 0 ? "heldout" : "train");
    return 1;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static const luaL_Reg own_base[] = {{"pairs", script_pairs},
                                    {"next", script_next},
                                    {"ipairs", script_ipairs},
                                    {"split", lib_split},
                                    {"tostring", lib_tostring},
                                    {"xpcall", lib_xpcall},
                                    {NULL, NULL}};
static const luaL_Reg own_table[] = {{"sort", script_sort}, {NULL, NULL}};
static const luaL_Reg own_math[] = {{"exp", lib_exp},
                                    {"log", lib_log},
                                    {"sin", lib_sin},
                                    {"cos", lib_cos},
                                    {"tan", lib_tan},
                                    {"asin", lib_asin},
                                    {"acos", lib_acos},
                                    {"atan", lib_atan},
                                    {"random", lib_random},
                                    {"randomseed", lib_randomseed},
                                    {NULL, NULL}};
static const luaL_Reg own_json[] = {{"decode", lib_json_decode}, {NULL, NULL}};

/* Replaces the string metatable that luaopen_string made, whose arithmetic functions are bare C
 * functions: strings index the chosen library, and "10" + 1 is an error. */
static void set_string_metatable(lua_State *L)
{
    lua_pushliteral(L, "");
    lua_newtable(L);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

void script_lib_open(lua_State *L)
{
    push_library(L, luaopen_base, base_names); /* the new global table */
    set_functions(L, own_base);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "_G");

    push_library(L, luaopen_string, string_names);
    lua_getfield(L, -1, "format");
    lua_pushcclosure(L, lib_format, 1);
    lua_setfield(L, -2, "format");
    set_string_metatable(L);
    lua_setfield(L, -2, "string");

    push_library(L, luaopen_table, table_names);
    set_functions(L, own_table);
    lua_setfield(L, -2, "table");

    push_library(L, luaopen_math, math_names);
    set_functions(L, own_math);
    lua_setfield(L, -2, "math");

    push_library(L, luaopen_utf8, utf8_names);
    lua_setfield(L, -2, "utf8");

    lua_newtable(L);
    set_functions(L, own_json);
    lua_setfield(L, -2, "json");

    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}
